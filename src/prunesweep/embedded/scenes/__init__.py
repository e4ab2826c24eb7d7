"""The embedded benchmark `scenes`: moving cameras, blocks of several sizes anywhere, answers of several words.

`script` draws what happens, `paths` how blocks move, `render` turns it into pixels, `questions` asks about it, `labels`
says what each visual token shows, for training.
"""
