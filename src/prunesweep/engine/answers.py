"""Which options a generated text names: functions of text, nothing else.

An answer names an option by its letter, where the options were listed with letters, or by its words.  Texts are compared after
`plain` has taken away what only decorates them.  Where readings disagree the more explicit one counts: "The answer is (B)"
before a letter at the beginning, that before "option B", that before a letter in brackets, that before an option's words.
Within a reading every option counts, so that an answer that names several is seen; what is denied ("not B") is not named.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LENIENT_LETTERS = frozenset("abcdefg")
"""A first word without any of these is wrong to the lenient parser."""

SIGNS = str.maketrans(
    {"。": ". ", "、": ", ", "“": '"', "”": '"', "‘": "'", "’": "'"}
    | dict.fromkeys("【「『〔〈《", "(")
    | dict.fromkeys("】」』〕〉》", ")")
)
THOUGHTS = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)
BOXES = re.compile(r"<answer>|\\boxed\b", re.IGNORECASE)
"""Markup that says that the answer follows."""
MARKUP = re.compile(
    r"</?[A-Za-z|][^<>]{0,40}>|\\(?:text|mathrm|mathbf|textbf)\b|[*`\"${}\\]|__|^\s*(?:#+|[-•>])\s+", re.MULTILINE
)
LONE_QUOTE = re.compile(r"(?<!\w)['_]|['_](?!\w)")
TAGGED = re.compile(r"<([A-Z])>(?!.*</\1>)", re.DOTALL)
"""A letter in angle brackets: a tag that nothing closes."""

LATIN = "A-Za-z0-9À-ɏ"
"""What makes a letter beside it part of a word; the signs of Chinese and Japanese do not."""
LETTER = re.compile(rf"(?<![{LATIN}_'.-])[(\[]?\s?([A-Za-z])(?![{LATIN}_'+#%]|[.-][{LATIN}])(?:\s?[)\]])?")
"""The space behind it only before a bracket: a line's end says that it is a letter and no article."""
SEPARATOR = re.compile(
    r"[.:]?\s*(?:[,/&;+]\s*(?:(?:and|or)\b\s*)?|(?:and|or)\b\s*|(?=[(\[])|(?=\n[A-Z]\s*$))"
    r"(?:(?:maybe|also|perhaps|possibly|probably|even)\b\s*)*\n?",
    re.IGNORECASE | re.MULTILINE,
)
"""Between the letters of a list."""
ITEM = re.compile(r"[.;]?\s+(?=[(\[]?[A-Za-z][)\].:])")
"""Between the items of a list that gives each letter with its option's words."""
ANSWER = (
    r"\b(?:answers?|solutions?|(?:correct|right|best|final)(?:\s+\w+)?\s+(?:options?|choices?|ones?|letters?|answers?))\b"
    r"|\bans\b(?=\.?[:\s])\.?|\bcorrect(?=\s*:)|答案"
)
OPTION = r"\b(?:options?|choices?|alternative|letter|choose|chose|pick|select|go(?:ing)? with)\b|选项|选择|选"
GUESS = r"\b(?:it is|it's|that is|that's|i think|i guess|i believe|i'd say|i would say|probably|definitely|therefore|thus|so)\b"
LEAD = (
    r"(?:\s*(?:(?:would|should|must|could|might|may)\s+be\b|is\b|are\b|was\b|=|是|为))?\s*(?::|[-–—](?=\s))?\s*"
    r"(?:(?:both|either|most likely|likely|probably|clearly|therefore|definitely|option|choice|letter|the|it's|it is)\b[:\s]*)*"
)
"""Between such a cue and what it announces."""
ANSWER_CUE, OPTION_CUE, GUESS_CUE = (re.compile(f"(?:{cue}){LEAD}", re.IGNORECASE) for cue in (ANSWER, OPTION, GUESS))
CONFIRMED = re.compile(
    rf"{LETTER.pattern}[.:]?\s+(?:is|seems|looks)\s+(?:to be\s+)?(?:the\s+)?(?:most\s+)?(?:correct|right|best|answer|likely)\b"
)
DENYING = re.compile(
    r"(?:\bnot|n't|\bnor|\bneither|\bexcept|\brather than|\binstead of|\bcannot)(?:\s+(?:be|the|in))*\s*$", re.IGNORECASE
)
"""What stands before something that is not the answer."""
VERB = r"(?:is|are|was|were|can|could|does|do|seems|looks)\b\s*"
DENIED = re.compile(
    rf"[.:]?\s*(?:not\b(?!\s+{LETTER.pattern})|{VERB}(?:(?:also|be)\s+)?not\b"
    rf"|(?:{VERB})?(?:(?:also|be)\s+)?(?:n't\b|(?:wrong|incorrect|false|impossible|ruled out|eliminated|excluded)\b))",
    re.IGNORECASE,
)
"""What stands behind it; "B not A" says what B is instead of."""
ALL_DENIED = re.compile(r"\s*(?:are|were|do|can|could)\b", re.IGNORECASE)
"""How a denial of a whole list begins."""
AFTER_LETTER = re.compile(r"\s*(?:$|[\n.:,;!?/&+)\]}>…—–=-]|(?:and|or|is|are|was|because|since|seems|looks)\b)", re.IGNORECASE)
"""What may follow the letters A and I, and small ones: they are words, too."""
END = re.compile(r"\s*(?:$|[.,;:!?)\n])")
OPENING = re.compile(r"(?:both|either)\s+", re.IGNORECASE)
"""What an answer may begin with before its letters."""
LINE_LETTER = re.compile(r"^(?:\d+[.)]\s+)?[(\[]?([A-Za-z])(?:[)\].:]+(?=\s|$)|$)", re.MULTILINE)
LAST_LETTER = re.compile(rf"(?<=[.;!?:]\s){LETTER.pattern}\.?\s*\Z")
"""A letter that is the last sentence."""
BRACKETED = re.compile(r"[(\[]\s?([A-Za-z])\s?[)\]]")

ARTICLE = re.compile(r"\A\s*(?:the|an?)\s+")
JOINED = re.compile(
    r"\s*(?:[/&+]|,?\s*\b(?:and|or|nor|then|to|than|through|plus|versus|vs|as well as|along with|together with)\b)\s*"
)
"""What makes an option's words a part of a longer answer: "cat and dog" is not "cat"."""
WITH = re.compile(r",?\s*\bwith\s+")
LISTED = re.compile(r"\s*[,;.:(\n]\s*|\s+")
UNITS = "one|two|three|four|five|six|seven|eight|nine"
LONGER_NUMBER = re.compile(
    r"\s+(?:hundred|thousand|million|billion|trillion|dozen|per\s?cent|\d)"
    rf"|(?<=ty)\s+(?:{UNITS})\b|(?<=\d)\s*[-‐-―−~]+\s*\d"
)
"""Behind a number that is not the whole one: "3 million", "twenty five", "3 - 5"."""
NOT_NO = re.compile(
    r"\s+(?!(?:it|he|she|they|there|the|this|that|these|those|we|i|you|not|an?|because|since|as|in|at|but|and|or)\b)\w"
)
"""Behind a "no" that is none: "no one", "no idea"."""
CLAUSE = (
    r"(?:is|are|was|were|has|have|had|will|would|can|could|does|did|do|be|it|he|she|they|we|i|you|the|an?|this|that|there|who|which|"
    r"because|since|as|so|but|if|when|while|after|before|not|in|on|at|of|for|from|by|into|onto|over|under|up|down|out|off|near|\w+(?:s|ed|ing))"
)
COMPOUND = re.compile(rf"\s+(?!{CLAUSE}\b)[^\W\d_]+")
"""Behind one word a noun, which may make another thing of both: "ice cream"."""
ATTRIBUTE = re.compile(
    r"yes|red|green|blue|yellow|orange|purple|pink|brown|black|white|gr[ae]y|cyan|gold|golden|silver|dark|light"
    r"|metal|rubber|wooden|wood|plastic|glass|round|square|small|large|big|little|tall|short|long|left|right|upper|lower"
    r"|top|bottom|front|back|first|second|third|last|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
)
"""Words that say something of the noun behind them: "blue block" is "blue"."""


def named_strictly(text: str, options: Sequence[str], lettered: bool) -> tuple[int, ...]:
    """Indices of the options that a text names, ascending; `lettered` where they were listed with letters."""
    said = plain(text)
    words = [_words(plain(option)) for option in options]
    if whole := _whole(said, options, words, lettered):
        return whole
    if ARTICLE.match(said.casefold()) and len(things := _by_words(said, words)) > 1:
        return things
    for letters in _letter_readings(said, words) if lettered else ():
        if letters:
            return tuple(sorted(set(letters)))
    return _by_words(said, words)


def named_leniently(text: str, options: Sequence[str], prefix: str) -> tuple[int, ...]:
    """Indices of the lettered options that the text's first word fits, the one mentioned first before others.

    An option fits if the word is part of its letter in brackets, such as "(b)", or the other way round, as the released code
    of PLLaVA and PruneVid compares; a bracket that the prefix ends with belongs to the answer.  Unlike there an article is no
    letter: "A man ..." names A only if that is what option A says.
    """
    if _begins_with_article(plain(text), [_words(plain(option)) for option in options]):
        return ()
    said = ("(" if prefix.endswith("(") else "") + text.strip()
    first = re.split(r"\s", said.lower(), maxsplit=1)[0].replace(".", "")
    if not LENIENT_LETTERS & set(first):
        return ()
    letters = LETTERS[: len(options)].lower()
    fitting = [i for i, letter in enumerate(letters) if first in f"({letter})" or f"({letter})" in first]
    return tuple(sorted(fitting, key=lambda i: first.index(letters[i])))


def plain(text: str) -> str:
    """A text without markup, quotation marks and reasoning in tags; full-width signs as ASCII, spaces single."""
    text = unicodedata.normalize("NFKC", THOUGHTS.sub(" ", text)).translate(SIGNS)
    text = TAGGED.sub(r"(\1)", text)
    text = LONE_QUOTE.sub("", MARKUP.sub("", BOXES.sub(" answer: ", text)))
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def _words(said: str) -> str:
    """For comparing with options: small letters, no article before, no punctuation behind."""
    return ARTICLE.sub("", said.casefold().rstrip(" \n.,;:!?"))


def _whole(said: str, options: Sequence[str], words: Sequence[str], lettered: bool) -> tuple[int, ...]:
    """Options that are the whole answer, to the letter or else in words; a single letter is read as one where there are any."""
    own = _words(said)
    if not own or (lettered and len(own) == 1):
        return ()
    exact = [i for i, option in enumerate(options) if plain(option) == said]
    return tuple(exact if len(exact) == 1 else (i for i, option in enumerate(words) if option == own))


# By letters


def _letter_readings(said: str, words: Sequence[str]) -> Iterator[list[int]]:
    """What each way of reading letters finds, the most explicit one first."""
    yield _after_cues(ANSWER_CUE, said, words) + _undenied(CONFIRMED.finditer(said), said, words)
    yield (
        _listed_at(opening.end() if (opening := OPENING.match(said)) else 0, said, words)
        + _undenied(LINE_LETTER.finditer(said), said, words)
        + _repeated(said, words)
    )
    yield _after_cues(OPTION_CUE, said, words)
    yield _undenied(BRACKETED.finditer(said), said, words)
    yield _after_cues(GUESS_CUE, said, words, alone=True)
    yield _undenied(LAST_LETTER.finditer(said), said, words)


def _after_cues(cue: re.Pattern[str], said: str, words: Sequence[str], alone: bool = False) -> list[int]:
    """Letters after every occurrence of a cue; with `alone` only those that a sentence ends with."""
    starts = [match.end() for match in cue.finditer(said) if not DENYING.search(said, 0, match.start())]
    return [index for start in starts for index in _listed_at(start, said, words, alone)]


def _listed_at(start: int, said: str, words: Sequence[str], alone: bool = False) -> list[int]:
    """The letter, or the letters of a list such as "(A), B or C", at a place of the text."""
    found: list[re.Match[str]] = []
    place = start
    while (match := LETTER.match(said, place)) and _is_letter(match, said, words):
        found.append(match)
        behind = _behind_words(match, said, words)
        gap = SEPARATOR.match(said, behind) or (ITEM.match(said, behind) if behind > match.end() else None)
        if not gap:
            break
        place = gap.end()
    if len(found) > 1 and ALL_DENIED.match(said, found[-1].end()) and DENIED.match(said, found[-1].end()):
        return []
    if alone and found and not END.match(said, found[-1].end()):
        return []
    return _undenied(found, said, words)


def _is_letter(match: re.Match[str], said: str, words: Sequence[str]) -> bool:
    """Whether a letter is one, and not an article, a pronoun or another word."""
    letter, rest = match[1], said[match.end() :]
    if match[0].strip().endswith((")", "]")) or AFTER_LETTER.match(rest):
        return True
    index = LETTERS.index(letter.upper())
    says_so = index < len(words) and words[index] and rest.strip().casefold().startswith(words[index])
    return bool(says_so) or (letter.isupper() and letter not in "AI")


def _behind_words(letter: re.Match[str], said: str, words: Sequence[str]) -> int:
    """Where a letter ends, together with the words of its option if these follow it."""
    index = LETTERS.index(letter[1].upper())
    if index >= len(words) or not words[index]:
        return letter.end()
    own = re.compile(rf"[).:]*\s*(?:[-–—]\s*)?(?:(?:the|an?)\s+)?{re.escape(words[index])}(?!\w)", re.IGNORECASE)
    match = own.match(said, letter.end())
    return match.end() if match else letter.end()


def _begins_with_article(said: str, words: Sequence[str]) -> bool:
    match = re.compile(r"(a)(?=\s)", re.IGNORECASE).match(said)
    return bool(match and not _is_letter(match, said, words))


def _repeated(said: str, words: Sequence[str]) -> list[int]:
    """Options that stand somewhere with their letter and their words."""
    folded = said.casefold()
    own_items = [
        re.compile(rf"(?<![{LATIN}])[(\[]?{letter}[)\].:]+\s*{re.escape(own)}(?!\w)") if own else None
        for letter, own in zip(LETTERS.lower(), words, strict=False)
    ]
    return [
        index for index, item in enumerate(own_items) if item and any(_holds(match, folded) for match in item.finditer(folded))
    ]


def _undenied(matches: Iterable[re.Match[str]], said: str, words: Sequence[str]) -> list[int]:
    """The options whose letters these are, without those that the text says are wrong."""
    found = []
    for match in matches:
        index = LETTERS.index(match[1].upper())
        if index < len(words) and _holds(match, said) and not DENIED.match(said, _behind_words(match, said, words)):
            found.append(index)
    return found


def _holds(match: re.Match[str], said: str) -> bool:
    """Whether the text does not deny what was found in it."""
    return not DENYING.search(said, 0, match.start()) and not DENIED.match(said, match.end())


# By words


def _by_words(said: str, words: Sequence[str]) -> tuple[int, ...]:
    """Options whose words the answer begins with, or that follow "the answer is"."""
    for start in (0, *(match.end() for match in ANSWER_CUE.finditer(said))):
        if found := _words_at(said[start:].casefold(), words):
            return tuple(sorted(found))
    return ()


def _words_at(said: str, words: Sequence[str], to_the_end: bool = False) -> set[int]:
    """Options that a text begins with: of one within another the longer, and those that are listed behind it.

    Empty if the option's words are part of a longer answer; with `to_the_end` also if anything else follows.
    """
    said = ARTICLE.sub("", said)
    first = max((own for own in words if own and _begins(said, own)), key=len, default=None)
    if first is None:
        return set()
    named, rest = {i for i, own in enumerate(words) if own == first}, said[len(first) :]
    if joined := JOINED.match(rest):
        others = _words_at(rest[joined.end() :], words, to_the_end)
        return named | others if others else set()
    if together := WITH.match(rest):
        return named | _words_at(rest[together.end() :], words, to_the_end)
    listed_too: set[int] = set()
    if listed := LISTED.match(rest):
        listed_too = _words_at(rest[listed.end() :], words, to_the_end=True)
    if DENIED.match(rest) or (not listed_too and ((to_the_end and not END.match(rest)) or _goes_on(first, rest))):
        return set()
    return named | listed_too


def _goes_on(own: str, rest: str) -> bool:
    """Whether what follows an option's words makes something else of them."""
    if own == "no":
        return bool(NOT_NO.match(rest))
    attribute = ATTRIBUTE.fullmatch(own) or own[-1].isdigit() or " " in own
    return not attribute and own.isascii() and bool(COMPOUND.match(rest))


def _begins(said: str, own: str) -> bool:
    """Whether an option's words begin a text as words of their own: "3" does not begin "3.5", nor "cat" "cat-like"."""
    if not said.startswith(own) or re.match(r"[\w%°#⁄]|\+(?!\s)|['-]\w|[.,:/]\d", said[len(own) :]):
        return False
    return not LONGER_NUMBER.match(said, len(own))
