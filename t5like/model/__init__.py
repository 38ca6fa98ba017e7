"""The network: one Transformer for encoder-decoder, encoder-only and decoder-only models."""
