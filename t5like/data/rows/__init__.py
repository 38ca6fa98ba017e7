"""Row numbers to features: mixing, order, examples, layout and the stream."""
