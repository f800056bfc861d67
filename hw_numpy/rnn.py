"""Image captioning with a recurrent network (eecs545-w20-hw4 Q4c): fc, word embedding, RNN or LSTM, softmax."""

from collections.abc import Mapping

import numpy as np
from numpy import ndarray
from numpy.typing import DTypeLike

if __package__:  # the course's scripts import these files by bare names
    from . import layers, rnn_layers
else:
    import layers
    import rnn_layers

_GATES = {"rnn": 1, "lstm": 4}  # cell type → number of columns of Wx, Wh and b for each hidden unit


class CaptioningRNN:
    """Generates a caption, word by word, from the features of an image.

    A fully connected layer maps the features to the hidden state before the first word. Each step then takes the
    embedding of a word, and a fully connected layer maps the new hidden state to the scores of the next word.

    Args:
        word_to_idx: number of each of the V words, 0 to V - 1. <NULL> pads captions; `sample` also needs <START> and
            <END>.
        input_dim: number of features of an image, D.
        wordvec_dim: dimension of the word embeddings, W.
        hidden_dim: number of hidden units, H.
        cell_type: "rnn" or "lstm".
        dtype: type of the parameters and of all results.
        seed: seed of the weights; None to draw it from NumPy's global generator, as in the course's scripts.

    Attributes:
        params: W_embed (V, W), W_proj (D, H), b_proj (H,), Wx (W, gates · H), Wh (H, gates · H), b (gates · H,),
            W_vocab (H, V), b_vocab (V,), with gates = 1 (rnn) or 4 (lstm).

    Raises:
        ValueError: the cell type is unknown, or there is no word <NULL>.
    """

    def __init__(
        self,
        word_to_idx: Mapping[str, int],
        input_dim: int = 512,
        wordvec_dim: int = 128,
        hidden_dim: int = 128,
        cell_type: str = "rnn",
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        if cell_type not in _GATES:
            raise ValueError(f"cell_type is {cell_type!r}, expected rnn or lstm")
        if "<NULL>" not in word_to_idx:
            raise ValueError("the vocabulary has no <NULL>")
        self.cell_type = cell_type
        self.dtype = np.dtype(dtype)
        self._null, self._start, self._end = (word_to_idx.get(word) for word in ("<NULL>", "<START>", "<END>"))
        words, columns = len(word_to_idx), _GATES[cell_type] * hidden_dim
        generator = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)

        def weights(rows: int, columns: int, scale: float) -> ndarray:
            return (scale * generator.standard_normal((rows, columns))).astype(dtype)

        self.params = {
            "W_embed": weights(words, wordvec_dim, 0.01),
            # With variance 1/rows, outputs are about as large as inputs.
            "W_proj": weights(input_dim, hidden_dim, input_dim**-0.5),
            "Wx": weights(wordvec_dim, columns, wordvec_dim**-0.5),
            "Wh": weights(hidden_dim, columns, hidden_dim**-0.5),
            "W_vocab": weights(hidden_dim, words, hidden_dim**-0.5),
            "b_proj": np.zeros(hidden_dim, dtype),
            "b": np.zeros(columns, dtype),
            "b_vocab": np.zeros(words, dtype),
        }

    def loss(self, features: ndarray, captions: ndarray) -> tuple[float, dict[str, ndarray]]:
        """Cross-entropy of the captions, and the gradients of all parameters by name.

        Args:
            features: (N, D) features of the images.
            captions: (N, T) word numbers; the padding <NULL> does not count towards the loss.

        The loss is summed over the words after the first and averaged over the captions. The recurrent layer takes
        (T, N, …) arrays; its backward pass is backpropagation through time. An LSTM's first cell state is 0.

        Raises:
            ValueError: the shapes do not fit, a word is out of range, or captions have fewer than two positions.
        """
        _check_shapes(features, captions)
        p, grads = self.params, {}
        words_in, words_out = captions[:, :-1], captions[:, 1:]  # each word is the input that predicts the next one
        forward = rnn_layers.rnn_forward if self.cell_type == "rnn" else rnn_layers.lstm_forward
        h0, fc_cache = layers.fc_forward(features.astype(self.dtype, copy=False), p["W_proj"], p["b_proj"])
        vectors, embedding_cache = rnn_layers.word_embedding_forward(words_in.T, p["W_embed"])  # (T-1, N, W)
        h, rnn_cache = forward(vectors, h0, p["Wx"], p["Wh"], p["b"])  # (T-1, N, H)
        scores, vocab_cache = rnn_layers.temporal_fc_forward(h.transpose(1, 0, 2), p["W_vocab"], p["b_vocab"])
        loss, dscores = rnn_layers.temporal_softmax_loss(scores, words_out, words_out != self._null)
        backward = rnn_layers.rnn_backward if self.cell_type == "rnn" else rnn_layers.lstm_backward
        dh, grads["W_vocab"], grads["b_vocab"] = rnn_layers.temporal_fc_backward(dscores, vocab_cache)
        dvectors, dh0, grads["Wx"], grads["Wh"], grads["b"] = backward(dh.transpose(1, 0, 2), rnn_cache)
        grads["W_embed"] = rnn_layers.word_embedding_backward(dvectors, embedding_cache)
        _, grads["W_proj"], grads["b_proj"] = layers.fc_backward(dh0, fc_cache)
        return loss, grads

    def sample(self, features: ndarray, max_length: int = 30) -> ndarray:
        """Generates captions greedily: the next word is always the one with the highest score.

        Args:
            features: (N, D) features of the images.
            max_length: largest number of words, including <END>.

        Returns (N, max_length) word numbers, without <START> and padded with <NULL> after <END>.

        Raises:
            ValueError: the shapes do not fit, or the vocabulary lacks <START> or <END>.
        """
        if self._start is None or self._end is None:
            raise ValueError("the vocabulary has no <START> or no <END>, which sampling needs")
        p = self.params
        h, _ = layers.fc_forward(features.astype(self.dtype, copy=False), p["W_proj"], p["b_proj"])
        c, words = np.zeros_like(h), np.full(len(features), self._start)
        captions = np.full((len(features), max_length), self._null)
        unfinished = np.ones(len(features), dtype=bool)
        for t in range(max_length):
            vectors, _ = rnn_layers.word_embedding_forward(words, p["W_embed"])
            if self.cell_type == "rnn":
                h, _ = rnn_layers.rnn_step_forward(vectors, h, p["Wx"], p["Wh"], p["b"])
            else:
                h, c, _ = rnn_layers.lstm_step_forward(vectors, h, c, p["Wx"], p["Wh"], p["b"])
            scores, _ = layers.fc_forward(h, p["W_vocab"], p["b_vocab"])
            words = scores.argmax(axis=1)
            captions[unfinished, t] = words[unfinished]
            unfinished &= words != self._end
            if not unfinished.any():
                break
        return captions


def _check_shapes(features: ndarray, captions: ndarray) -> None:
    if captions.ndim != 2 or captions.shape[1] < 2 or len(captions) != len(features):
        raise ValueError(
            f"features of shape {features.shape} and captions of shape {captions.shape} do not fit: "
            "expected (N, D) and (N, T) with T of 2 or more"
        )
