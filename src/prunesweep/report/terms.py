"""Words of statistics and of this field that the report explains where they stand."""

from __future__ import annotations

TERMS = {
    "accuracy": "The share of answered questions that are right. ± is one standard error, n the number of questions.",
    "standard error": "How far an accuracy would typically move with other questions like these. Questions on one video are not "
    "independent, so videos are its units.",
    "SE": "Standard error: how far an accuracy would typically move with other questions like these.",
    "95 % interval": "Made so that in 95 of 100 such experiments it holds the true value. Bars in charts are such.",
    "dense": "The model without any reduction, on the same frames and prompts.",
    "front": "The Pareto front: trials of which no other is as cheap and as accurate.",
    "Pareto front": "Trials of which no other is as cheap and as accurate.",
    "knee": "Where the front turns: the trial farthest above the straight line between the front's ends.",
    "draws of the videos": "The bootstrap: videos drawn anew with replacement, show what chance alone changes.",
    "hypervolume": "The area below the front, of the rectangle up to full accuracy and the largest cost. 1 is full accuracy for "
    "nothing.",
    "within the margin": "Shown to lose less accuracy against dense than the margin that was set.",
    "in margin": "Shown to lose less accuracy against dense than the margin that was set.",
    "cannot tell": "Neither shown to lose less than the margin nor shown to be worse: these questions are too few.",
    "power": "The chance that a test finds a difference of this size.",
    "paired": "Two trials are compared question by question, so that hard questions do not count as differences.",
    "clustered by video": "Questions on one video are not independent; errors and tests count videos.",
    "Holm-corrected": "P-values made larger for looking at many trials, so that any false finding has a chance of 5 % at most.",
    "Holm": "P-values made larger for looking at many trials, so that any false finding has a chance of 5 % at most.",
    "FDR": "P-values corrected so that few of the findings are false on average (Benjamini and Hochberg, 1995).",
    "McNemar": "The exact test on gained and lost answers that takes all questions for independent.",
    "score test": "A test of how large a loss the gained and lost answers allow (Tango, 1998).",
    "fANOVA": "A forest of trees foresees accuracy from the settings; each setting's share is what it explains alone.",
    "importance": "The share of accuracy's variance over the settings tried that one setting explains alone.",
    "interaction": "Two settings interact where the effect of one depends on the value of the other.",
    "interactions": "Two settings interact where the effect of one depends on the value of the other.",
    "LLM prefill": "The language model's pass over video and question, before the first token of the answer.",
    "FLOPs": "Floating-point operations; a multiply-add counts as two.",
    "KV caches": "What the language model keeps of every token for generating the next one.",
    "tokens at end": "Visual tokens in the last layer of the language model, as a share of the dense model's.",
    "paper default": "All settings as in the method's paper. Of positions and seeds papers say nothing, so any value counts.",
    "gained": "Answers that are right here and wrong in the dense model.",
    "lost": "Answers that are wrong here and right in the dense model.",
    "points": "Percentage points of accuracy.",
}
