"""ist-2023-24 Q3: speech recognition with an LSTM and a Transformer decoder."""
