"""The embedded benchmark `blocks` and the tiny video LLM that is trained on it.

`scene` draws what happens, `render` turns it into pixels, `questions` asks about it, `language` and `network` make the
tokenizer and the untrained checkpoint, `training` teaches it, `build` writes a split as mp4 files with a JSONL.
"""
