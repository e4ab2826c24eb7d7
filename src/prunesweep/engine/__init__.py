"""One trial on one question: protocol, stages, sharing, the encoder cache, matching a budget, latency."""
