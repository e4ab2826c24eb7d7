"""The embedded benchmarks `blocks` and `scenes`, and the tiny video LLMs that are trained on them.

Of `blocks`, `scene` draws what happens, `render` turns it into pixels, `questions` asks about it; `scenes` has a folder of its
own.  `worlds` names what each is made of.  `language` and `network` make the tokenizer and the untrained checkpoint, `training`
teaches it, `h264` and `build` write a split as mp4 files with a JSONL.
"""
