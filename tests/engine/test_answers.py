"""What answers of real models name: by letter and by words, one option, several or none."""

import itertools
from collections.abc import Sequence

import pytest

from prunesweep.engine.answers import LETTERS, named_leniently, named_strictly, plain

OPTIONS = ("Ate the medicine.", "Tidied up the blanket.", "Put down the cup.", "Opened the door.")

ONE_LETTER = """
B
b
B.
b)
(B)
（B）
【B】
[B]
**B**
__B__
`B`
"B"
'B'
“B”
Ⓑ
Ｂ
B</s>
B: Tidied up the blanket.
B) Tidied up the blanket
B. Tidied up the blanket, as the man folds it and puts it on the bed.
B.Tidied up the blanket
B Tidied up the blanket
B - Tidied up the blanket
**B.** Tidied up the blanket.
- B
# B
Option B
Option (B) is correct.
The answer is (B).
The answer is B
The answer is b.
The answer would be (B)
Answer: B
ANSWER：B
Answer:\\nB
The correct answer is **B**.
The correct answer is: B. Tidied up the blanket.
The best option is (B)
Best option: (B) Tidied up the blanket
Correct option: B
The correct answer is option (B): Tidied up the blanket.
Final Answer: \\boxed{B}
$\\boxed{\\text{B}}$
<think>A or B? (A) has a pill, so A?</think><answer>B</answer>
I would choose option B because the man folds it.
I think it's B.
It's B.
So B.
B is correct
B is the correct answer, not A.
B because the person folds the blanket
B\\n\\nThe person folds the blanket.
The answer is (B) because (A) is wrong
The answer is not A, it is B.
A is wrong, so B.
Option A is wrong. Option B is right.
Not A. The answer is B.
Based on the video, the correct answer is B.
The person folds a blanket, so the answer is B.
The answer is (B) not (A)
B not A
Not A. B.
ans: B
Ans. B
Answer - B
Correct: B
_B_
> B
<B>
<b>B</b>
The answer is <B>.
1. B
1) B. Tidied up the blanket.
答案是B
答案：Ｂ
选B。
选项B
B。整理毯子
Tidied up the blanket.
tidied up the blanket
"Tidied up the blanket"
The answer is tidied up the blanket.
"""
ARTICLE_OR_LETTER = (
    ("A", "A"),
    ("a", "A"),
    ("A.", "A"),
    ("A is correct.", "A"),
    ("A Ate the medicine.", "A"),
    ("The answer is a", "A"),
    ("A man tidied up the blanket.", ""),
    ("A man.", ""),
    ("a man", ""),
    ("A  person is eating", ""),
    ("Answer: A man eats", ""),
    ("The answer is a man", ""),
    ("I", ""),
    ("I see a man.", ""),
)
SEVERAL = (
    ("(A)(B)", "AB"),
    ("b)(c)", "BC"),
    ("A)/(B)/(C)/(D)", "ABCD"),
    ("A and B", "AB"),
    ("A, B", "AB"),
    ("A, B or C", "ABC"),
    ("A/B/C/D", "ABCD"),
    ("The answer is A or B.", "AB"),
    ("The answer is A. The answer is B.", "AB"),
    ("Options A and C", "AC"),
    ("A. Ate the medicine. B. Tidied up the blanket. C. Put down the cup.", "ABC"),
    ("A. Ate the medicine.\nB. Tidied up the blanket.", "AB"),
    ("A and maybe B", "AB"),
    ("A, and also B", "AB"),
    ("A or maybe (B)", "AB"),
    ("The answer: A\nThe answer: B", "AB"),
    ("The answer is A and possibly C", "AC"),
    ("Both A and B", "AB"),
    ("Either A or B", "AB"),
    ("The answer is both A and B.", "AB"),
    ("A & B", "AB"),
    ("A + B", "AB"),
    ("The answers are A and B", "AB"),
    ("The correct answers are (A) and (C).", "AC"),
    ("A\nB", "AB"),
    ("The answer is A\nB", "AB"),
    ("(A)\n(B)", "AB"),
    ("1. A\n2. B", "AB"),
    ("Answer: (A) Ate the medicine, (B) Tidied up the blanket", "AB"),
    ("The answer is (A) ate the medicine and (B) tidied up the blanket.", "AB"),
    ("The answer is A. Ate the medicine.\nB. Tidied up the blanket.", "AB"),
    ("The answer is A: Ate the medicine; C: Put down the cup.", "AC"),
    ("The answer is B. Tidied up the blanket. A. Ate the medicine is wrong.", "B"),
    ("Answer: B\nA is wrong.", "B"),
    ("Ate the medicine and tidied up the blanket.", "AB"),
)
NONE = """

!!!!
.
I do not know
None of the above
Neither A nor B
A and B are wrong
B is not A
A. Ate the medicine is wrong.
Both A and B are not right.
I am sure
Not B
The answer isn't B
The answer is not (B).
E
(E) something else
Bananas
Because he ate
B-52 bomber
D.C. is the capital
U.S. army
T-shirt
C++
B's hat
He took vitamin C
The man put down the cup.
Ate the medicine and left.
<think>The man folds a blanket, so (B)
"""


def by_letter(text: str, options: Sequence[str] = OPTIONS) -> str:
    return "".join(LETTERS[i] for i in named_strictly(text, options, lettered=True))


@pytest.mark.parametrize("text", ONE_LETTER.strip().splitlines())
def test_the_second_option_is_read_however_it_is_said(text: str) -> None:
    assert by_letter(text.replace("\\n", "\n")) == "B"


@pytest.mark.parametrize(("text", "named"), ARTICLE_OR_LETTER + SEVERAL)
def test_articles_are_no_letters_and_several_options_are_several(text: str, named: str) -> None:
    assert by_letter(text) == named


@pytest.mark.parametrize("text", NONE.splitlines())
def test_what_names_no_option_is_read_as_none(text: str) -> None:
    assert by_letter(text) == ""


def test_a_letter_is_read_as_one_where_options_are_letters_or_digits() -> None:
    assert by_letter("A", ("B", "A")) == "A"
    assert by_letter("3", ("2", "3")) == "B"
    assert by_letter("E", tuple("vwxyz")) == "E"
    assert by_letter("A man walks.", ("A dog runs.", "A man walks.")) == "B"
    assert by_letter("A cat", ("A cat", "A dog")) == "A"
    assert by_letter("A cat and a dog", ("A cat", "A dog")) == "AB"


GAPS = (
    *((gap, "") for gap in (", ", " as well as ", " + ", " with ", " along with ", " & ", "/", "; ", "\n", " ")),
    (" (", ")"),
    (". ", "."),
    (" ", "."),
)
YES, COLOURS = ("Yes.", "No."), ("red", "blue")


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("cat and dog", ("cat", "cat and dog"), [1]),
        ("cat", ("cat", "cat and dog"), [0]),
        ("cat and dog", ("cat", "bird"), []),
        ("cat and dog", ("cat", "dog"), [0, 1]),
        *((f"cat{gap}dog{end}", ("cat", "dog"), [0, 1]) for gap, end in GAPS),
        ("cat with a hat", ("cat", "dog"), [0]),
        ("the cat with the dog on it", ("cat", "dog"), [0, 1]),
        *(
            (f"3{rest}", ("3", "4"), [])
            for rest in ("–5", "~5", "−5", " - 5", "～5", "‐5", " million", " hundred", " percent", "%")
        ),
        *((f"3{rest}", ("3", "4"), [0]) for rest in (" - the men", " of them", " men", " (three)", "! ")),
        ("two hundred", ("two", "three"), []),
        ("twenty five", ("twenty", "thirty"), []),
        *((f"No {noun}", YES, []) for noun in ("one", "idea", "clue.", "man is there")),
        *((f"No{rest}", YES, [1]) for rest in (", he does not", " it is not", ". No one is", " he doesn't", " there is none")),
        ("ice cream", ("ice", "water"), []),
        ("an ice cream in a cup", ("ice", "water"), []),
        ("ice cream", ("ice", "ice cream"), [1]),
        ("ice is on the table", ("ice", "water"), [0]),
        ("the dog runs away", ("cat", "dog"), [1]),
        ("metal cube", ("metal", "rubber"), [0]),
        ("cat-like", ("cat", "dog"), []),
        ("Red and blue.", ("red", "red and blue", "blue"), [1]),
        ("red, blue and green", ("red", "blue", "green"), [0, 1, 2]),
        ("red then green", ("red", "blue"), []),
        ("red\nblue", COLOURS, [0, 1]),
        ("blue, not red", COLOURS, [1]),
        ("Red is not the colour", COLOURS, []),
        ("not red", COLOURS, []),
        ("The answer is blue.", COLOURS, [1]),
        ("blue block", COLOURS, [1]),
        ("a blue block", COLOURS, [1]),
        ("**Blue**", COLOURS, [1]),
        ("bluest", COLOURS, []),
        ("B", COLOURS, []),
        ("3.5", ("3", "4"), []),
        ("3.5", ("3", "3.5"), [1]),
        ("3", ("3", "3.5"), [0]),
        ("3.", ("3", "4"), [0]),
        ("3 apples", ("3", "4"), [0]),
        ("3,000", ("3", "4"), []),
        ("3:45", ("3", "4"), []),
        ("3/4", ("3", "4"), []),
        ("1 000", ("1", "2"), []),
        ("10", ("1", "10"), [1]),
        ("3-4", ("3", "4"), []),
        ("3 or 4", ("3", "4"), [0, 1]),
        ("-3", ("3", "-3"), [1]),
        ("Yes", YES, [0]),
        ("yes, it is", YES, [0]),
        ("Yes, no doubt", YES, [0]),
        ("yes or no", YES, [0, 1]),
        ("Yes!", YES, [0]),
        ("No", YES, [1]),
        ("left to right", ("left", "right"), [0, 1]),
        ("C++", ("C", "C++"), [1]),
        ("US", ("us", "US"), [1]),
        ("the red cube", ("red cube", "cube"), [0]),
        ("STRASSE", ("straße", "weg"), [0]),
        ("红色", ("红", "红色"), [1]),
        ("猫和狗", ("猫", "狗"), []),
        ("猫。", ("猫", "狗"), [0]),
        ("", ("", "x"), []),
        ("!!!!", COLOURS, []),
    ],
)
def test_words_are_compared_as_words_to_the_end_of_what_they_say(text: str, options: Sequence[str], named: list[int]) -> None:
    assert list(named_strictly(text, options, lettered=False)) == named


def test_no_option_of_any_subset_is_taken_for_another() -> None:
    """Every option said as it is, or after a cue, names itself, also where others begin alike."""
    pool = ("cat", "cat and dog", "dog", "3", "3.5", "30", "Yes", "No.", "no one", "A man walks.", "red, blue", "left to right")
    for options in itertools.permutations(pool, 3):
        for index, option in enumerate(options):
            for said in (option, option.upper(), f" {option}\n", f"**{option}**", f"The answer is {option}"):
                for lettered in (False, True):
                    assert named_strictly(said, options, lettered) == (index,), (options, said)


LINES_BEFORE = ("{}", "({})", "[{}]", "{}.", "Option {}", "Answer: {}", "The answer is {}", "The answer is ({})", "Answer:\n{}")
LINES_BEHIND = ("\nBecause he runs.", "\n\nExplanation: he runs", "\nThe man runs.", "\nHe runs", "\n\nReason: it", " \n it")
BROKEN_LINES = tuple(map("".join, itertools.product(LINES_BEFORE, LINES_BEHIND)))


def test_every_letter_is_named_by_every_form_of_it() -> None:
    options = tuple(f"thing {number}" for number in range(26))
    forms = ("{}", "({})", "{}.", "{})", "{}:", "The answer is {}", "Option {}", "{}. {text}", "Answer: {}\nBecause.")
    for form, (index, letter) in itertools.product((*forms, *BROKEN_LINES), enumerate(LETTERS)):
        assert named_strictly(form.format(letter, text=options[index]), options, lettered=True) == (index,), (form, letter)


def released(text: str, letter: str, prefix: str) -> bool:
    """The comparison as the reference describes it, written down once more, option by option."""
    word = (("(" if prefix.endswith("(") else "") + text.strip()).lower().split(" ")[0].replace(".", "")
    truth = f"({letter.lower()})"
    return any(c in word for c in "abcdefg") and (word in truth or truth in word)


@pytest.mark.parametrize("prefix", ["", "Best option:("])
def test_the_lenient_parser_fits_what_the_released_comparison_fits(prefix: str) -> None:
    pieces = ("A", "b", "(C)", "d)", "(e", ".", " ", "Ate", "x", ")", "(", "H")
    texts = ["".join(parts) for size in (1, 2, 3) for parts in itertools.product(pieces, repeat=size)]
    for text in texts:
        if plain(text)[:2].lower() == "a ":
            continue  # an article, see below
        named = named_leniently(text, OPTIONS, prefix)
        assert sorted(named) == [i for i in range(4) if released(text, LETTERS[i], prefix)], text


def test_the_lenient_parser_takes_no_article_for_a_letter_and_the_first_of_several() -> None:
    for prefix in ("", "Best option:("):
        assert named_leniently("A man tidied up the blanket.", OPTIONS, prefix) == ()
        assert named_leniently("A Ate the medicine.", OPTIONS, prefix) == (0,)
        assert named_leniently("A", OPTIONS, prefix) == (0,)
    assert named_leniently("(b)(a)", OPTIONS, "") == (1, 0)
    assert named_leniently("A)/(B)/(C)/(D)", OPTIONS, "Best option:(") == (0, 1, 2, 3)
