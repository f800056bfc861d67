"""What a good student hands in for Q4: captions by a plain RNN."""

import numpy as np
from layers import fc_backward, fc_forward
from rnn_layers import (
    rnn_backward,
    rnn_forward,
    rnn_step_forward,
    temporal_fc_backward,
    temporal_fc_forward,
    temporal_softmax_loss,
    word_embedding_backward,
    word_embedding_forward,
)


class CaptioningRNN:
    def __init__(self, word_to_idx, input_dim=512, wordvec_dim=128, hidden_dim=128, cell_type="rnn", dtype=np.float32):
        if cell_type != "rnn":
            raise NotImplementedError
        self._null, self._start, self._end = word_to_idx["<NULL>"], word_to_idx["<START>"], word_to_idx["<END>"]
        V = len(word_to_idx)
        self.params = {
            "W_embed": np.random.randn(V, wordvec_dim) / 100,
            "W_proj": np.random.randn(input_dim, hidden_dim) / np.sqrt(input_dim),
            "b_proj": np.zeros(hidden_dim),
            "Wx": np.random.randn(wordvec_dim, hidden_dim) / np.sqrt(wordvec_dim),
            "Wh": np.random.randn(hidden_dim, hidden_dim) / np.sqrt(hidden_dim),
            "b": np.zeros(hidden_dim),
            "W_vocab": np.random.randn(hidden_dim, V) / np.sqrt(hidden_dim),
            "b_vocab": np.zeros(V),
        }
        for name, value in self.params.items():
            self.params[name] = value.astype(dtype)

    def loss(self, features, captions):
        p, grads = self.params, {}
        captions_in, captions_out = captions[:, :-1], captions[:, 1:]
        mask = captions_out != self._null
        h0, proj_cache = fc_forward(features, p["W_proj"], p["b_proj"])
        x, embed_cache = word_embedding_forward(captions_in, p["W_embed"])
        h, rnn_cache = rnn_forward(x.transpose(1, 0, 2), h0, p["Wx"], p["Wh"], p["b"])
        scores, vocab_cache = temporal_fc_forward(h.transpose(1, 0, 2), p["W_vocab"], p["b_vocab"])
        loss, dscores = temporal_softmax_loss(scores, captions_out, mask)
        dh, grads["W_vocab"], grads["b_vocab"] = temporal_fc_backward(dscores, vocab_cache)
        dx, dh0, grads["Wx"], grads["Wh"], grads["b"] = rnn_backward(dh.transpose(1, 0, 2), rnn_cache)
        grads["W_embed"] = word_embedding_backward(dx.transpose(1, 0, 2), embed_cache)
        _, grads["W_proj"], grads["b_proj"] = fc_backward(dh0, proj_cache)
        return loss, grads

    def sample(self, features, max_length=30):
        p, N = self.params, features.shape[0]
        captions = self._null * np.ones((N, max_length), dtype=np.int32)
        h, _ = fc_forward(features, p["W_proj"], p["b_proj"])
        word = self._start * np.ones(N, dtype=np.int32)
        for t in range(max_length):
            x, _ = word_embedding_forward(word, p["W_embed"])
            h, _ = rnn_step_forward(x, h, p["Wx"], p["Wh"], p["b"])
            scores, _ = fc_forward(h, p["W_vocab"], p["b_vocab"])
            word = scores.argmax(axis=1)
            captions[:, t] = word
        return captions
