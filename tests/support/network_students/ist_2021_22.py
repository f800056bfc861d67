"""What good students hand in for ist-2021-22-hw2, in two styles, with what public solutions get wrong."""

CNN = """
import torch, torch.nn as nn, torch.nn.functional as F
from matplotlib import pyplot as plt
import utils

class CNN(nn.Module):
    def __init__(self, dropout_prob):
        super(CNN, self).__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, stride=1, padding=1)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, stride=1, padding=0)
        self.pool = nn.MaxPool2d(2, stride=2)
        self.fc1 = nn.Linear(32 * 6 * 6, 600)
        self.drop = nn.Dropout(dropout_prob)
        self.fc2 = nn.Linear(600, 120)
        self.fc3 = nn.Linear(120, 10)

    def forward(self, x):
        x = x.view(-1, 1, 28, 28)
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, 32 * 6 * 6)
        x = F.relu(self.fc1(x))
        x = self.drop(x)
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return F.log_softmax(x, dim=1)

def train_batch(X, y, model, optimizer, criterion, **kwargs):
    optimizer.zero_grad()
    out = model(X, **kwargs)
    loss = criterion(out, y)
    loss.backward()
    optimizer.step()
    return loss.item()

def predict(model, X):
    return model(X).argmax(dim=-1)

def evaluate(model, X, y):
    model.eval()
    y_hat = predict(model, X)
    n_correct = (y == y_hat).sum().item()
    model.train()
    return n_correct / float(y.shape[0])

def main():
    input("never called")

if __name__ == "__main__":
    main()
"""

SEQUENTIAL = """
import torch
from torch import nn

class CNN(nn.Module):
    def __init__(self, dropout=0.3, n_classes=10, **kwargs):
        super().__init__()
        self.convblock1 = nn.Sequential(nn.Conv2d(1, 16, 3, padding="same"), nn.ReLU(inplace=True), nn.MaxPool2d(2, 2))
        self.convblock2 = nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2, 2))
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.LazyLinear(600), nn.ReLU(), nn.Dropout(p=dropout), nn.Linear(600, 120), nn.ReLU(),
            nn.Linear(120, n_classes), nn.LogSoftmax(dim=-1))
        self.classifier(self.convblock2(self.convblock1(torch.zeros(1, 1, 28, 28))))

    def forward(self, x):
        if x.dim() == 2:
            x = x.reshape(len(x), 1, 28, 28)
        return self.classifier(self.convblock2(self.convblock1(x)))

def train_batch(X, y, model, optimizer, criterion, **kwargs):
    loss = criterion(model(X), y)
    model.zero_grad()
    loss.backward()
    optimizer.step()
    return loss

@torch.no_grad()
def evaluate(model, X, y):
    was = model.training
    model.train(False)
    accuracy = (model(X).argmax(1) == y).float().mean()
    model.train(was)
    return accuracy
"""

DECODER = """
import torch
from torch import nn

class Decoder(nn.Module):
    def __init__(self, decoder_dim, embed_dim, vocab_size, encoder_dim=512, dropout=0.5):
        super(Decoder, self).__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.dropout = nn.Dropout(p=dropout)
        self.decode_step = nn.LSTMCell(embed_dim, decoder_dim, bias=True)
        self.init_h = nn.Linear(encoder_dim, decoder_dim)
        self.init_c = nn.Linear(encoder_dim, decoder_dim)
        self.fc = nn.Linear(decoder_dim, vocab_size)

    def init_hidden_state(self, encoder_out):
        mean = encoder_out.mean(dim=1)
        return self.init_h(mean), self.init_c(mean)

    def forward(self, word, decoder_hidden_state, decoder_cell_state, encoder_out=None):
        h, c = self.decode_step(self.embedding(word), (decoder_hidden_state, decoder_cell_state))
        scores = self.fc(self.dropout(h))
        return scores, h, c
"""

WITH_ATTENTION = """
import torch
from torch import nn

class Attention(nn.Module):
    def __init__(self, encoder_dim, decoder_dim, attention_dim):
        super(Attention, self).__init__()
        self.encoder_att = nn.Linear(encoder_dim, attention_dim)
        self.decoder_att = nn.Linear(decoder_dim, attention_dim)
        self.full_att = nn.Linear(attention_dim, 1)
        self.tanh = nn.Tanh()
        self.softmax = nn.Softmax(dim=1)

    def forward(self, encoder_out, decoder_hidden):
        att1 = self.encoder_att(encoder_out)
        att2 = self.decoder_att(decoder_hidden)
        e = self.full_att(self.tanh(att1 + att2.unsqueeze(1))).squeeze(2)
        alpha = self.softmax(e)
        return (encoder_out * alpha.unsqueeze(2)).sum(dim=1)

class DecoderWithAttention(nn.Module):
    def __init__(self, attention_dim, embed_dim, decoder_dim, vocab_size, encoder_dim=512, dropout=0.5):
        super(DecoderWithAttention, self).__init__()
        self.attention = Attention(encoder_dim, decoder_dim, attention_dim)
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.dropout = nn.Dropout(p=dropout)
        self.decode_step = nn.LSTMCell(embed_dim + encoder_dim, decoder_dim, bias=True)
        self.init_h = nn.Linear(encoder_dim, decoder_dim)
        self.init_c = nn.Linear(encoder_dim, decoder_dim)
        self.fc = nn.Linear(decoder_dim, vocab_size)

    def forward(self, word, decoder_hidden_state, decoder_cell_state, encoder_out):
        context = self.attention(encoder_out, decoder_hidden_state)
        x = torch.cat([self.embedding(word), context], dim=1)
        h, c = self.decode_step(x, (decoder_hidden_state, decoder_cell_state))
        scores = self.fc(self.dropout(h))
        return scores, h, c
"""

OTHER_ATTENTION = """
import torch
import torch.nn as nn
import torch.nn.functional as F

class Attention(nn.Module):
    def __init__(self, encoder_dim, decoder_dim, attention_dim):
        super().__init__()
        self.encoder_att = nn.Linear(encoder_dim, attention_dim)
        self.decoder_att = nn.Linear(decoder_dim, attention_dim)
        self.full_att = nn.Linear(attention_dim, 1)
        self.relu = nn.ReLU()

    def forward(self, encoder_out, decoder_hidden):
        scores = self.full_att(self.relu(self.encoder_att(encoder_out) + self.decoder_att(decoder_hidden)))
        alpha = F.softmax(scores, dim=1)
        return torch.bmm(alpha.transpose(1, 2), encoder_out).squeeze(1), alpha.squeeze(2)

class DecoderWithAttention(nn.Module):
    def __init__(self, attention_dim, embed_dim, decoder_dim, vocab_size, encoder_dim=512, dropout=0.5):
        super().__init__()
        self.attention = Attention(encoder_dim, decoder_dim, attention_dim)
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.decode_step = nn.LSTMCell(embed_dim + encoder_dim, decoder_dim)
        self.init_h, self.init_c = nn.Linear(encoder_dim, decoder_dim), nn.Linear(encoder_dim, decoder_dim)
        self.fc = nn.Linear(decoder_dim, vocab_size)

    def forward(self, word, decoder_hidden_state, decoder_cell_state, encoder_out):
        context, alpha = self.attention(encoder_out, decoder_hidden_state.unsqueeze(1))
        decoder_hidden_state, decoder_cell_state = self.decode_step(
            torch.cat((self.embedding(word), context), 1), (decoder_hidden_state, decoder_cell_state))
        return self.fc(self.dropout(decoder_hidden_state)), decoder_hidden_state, decoder_cell_state, alpha
"""

# What differs between right solutions: names, the form of the states, the order of what is concatenated or flattened.
VARIED = (
    WITH_ATTENTION.replace("self.attention", "self.att_layer")
    .replace("[self.embedding(word), context]", "[context, self.embedding(word)]")
    .replace("return scores, h, c", "return scores, h, c, None")
    .replace(
        "att2 = self.decoder_att(decoder_hidden)", "att2 = self.decoder_att(decoder_hidden).view(len(encoder_out), -1)"
    )
    .replace("(encoder_out, decoder_hidden_state)", "(encoder_out, decoder_hidden_state.unsqueeze(1))")
)
CHANNELS_LAST = CNN.replace("x.view(-1, 32 * 6 * 6)", "x.permute(0, 2, 3, 1).reshape(len(x), -1)")

GOOD = (
    {"hw2-q2.py": CNN, "src/models/decoder.py": DECODER, "src/models/decoder_with_attention.py": WITH_ATTENTION},
    {"my cnn.py": SEQUENTIAL, "models.py": DECODER.replace("self.dropout(h)", "self.dropout(h.clone())"),
     "attention.py": OTHER_ATTENTION},
    {"hw2-q2.py": CHANNELS_LAST, "models/decoder_with_attention.py": VARIED, "decoder.py": DECODER},
)  # fmt: skip

# Each: the class or function, the good text, text in it, what stands there instead, and a part of the hint.
MISTAKES = (
    ("CNN", CNN, "padding=1", "padding=0", "is invalid for input of size"),
    ("CNN", CNN, "return F.log_softmax(x, dim=1)", "return x", "the LogSoftmax is missing"),
    ("CNN", CNN, "F.log_softmax", "F.softmax", "returns probabilities"),
    ("CNN", CNN, "x = self.drop(x)", "pass", "dropout has no effect in training mode"),
    ("CNN", CNN, "self.drop(x)", "F.dropout(x, 0.5)", "dropout is active there, too"),
    ("CNN", CNN, "x = F.relu(self.fc2(x))", "x = self.fc2(x)",
     "ReLU after the second affine transformation is missing"),
    ("CNN", CNN, "nn.Linear(600, 120)", "nn.Linear(600, 128)", "has weights of shape (128, 600), expected (120, 600)"),
    ("CNN", CNN, "F.log_softmax(x, dim=1)", "F.log_softmax(F.relu(x), dim=1)", "a ReLU precedes the LogSoftmax"),
    ("CNN", CNN, "x = F.relu(self.fc1(x))", "x = F.relu(self.fc1(x.detach()))", "no gradient reaches"),
    ("train_batch", CNN, "    optimizer.zero_grad()\n", "", "gradients of the previous batch are not set to zero"),
    ("train_batch", CNN, "    optimizer.step()\n", "", "there is no step of the optimizer"),
    ("train_batch", CNN, "return loss.item()", "return None", "does not return the loss"),
    ("train_batch", CNN, "    out = model(X, **kwargs)", "    model.eval()\n    out = model(X)", "into eval mode"),
    ("Decoder", DECODER, "self.fc(self.dropout(h))", "self.fc(h)", "dropout has no effect"),
    ("Decoder", DECODER, "scores = self.fc", "h = self.dropout(h)\n        scores = self.fc",
     "dropout changes the returned hidden state"),
    ("Decoder", DECODER, "return scores, h, c", "return scores, c, h", "returned in the wrong order"),
    ("Decoder", DECODER, "self.dropout(h)", "self.dropout(decoder_hidden_state)", "state before the step"),
    ("Decoder", DECODER, "return scores, h, c", "return torch.softmax(scores, 1), h, c", "returns probabilities"),
    ("Attention", WITH_ATTENTION, "self.tanh(att1 + att2.unsqueeze(1))", "(att1 + att2.unsqueeze(1))",
     "between the two linear layers is missing"),
    ("Attention", WITH_ATTENTION, "nn.Softmax(dim=1)", "nn.Softmax(dim=0)", "softmax runs over the batch"),
    ("Attention", WITH_ATTENTION, "alpha = self.softmax(e)", "alpha = e", "softmax is missing"),
    ("Attention", WITH_ATTENTION, ".sum(dim=1)", ".mean(dim=1)", "the weighted vectors must be summed"),
    ("DecoderWithAttention", WITH_ATTENTION, "self.embedding(word), context]",
     "self.embedding(word), encoder_out.mean(1)]",
     "the mean of the regions is used"),
    ("DecoderWithAttention", WITH_ATTENTION, "scores = self.fc(self.dropout(h))",
     "h = self.dropout(h); scores = self.fc(h)",
     "dropout changes the returned hidden state"),
    ("Attention", WITH_ATTENTION, "self.tanh(att1 + att2.unsqueeze(1))",
     "(self.tanh(att1) + self.tanh(att2).unsqueeze(1))",
     "each projection is activated"),
    ("Attention", WITH_ATTENTION, "att1 + att2.unsqueeze(1)", "att1", "no gradient reaches"),
    ("Decoder", DECODER, "(decoder_hidden_state, decoder_cell_state))", "(decoder_cell_state, decoder_hidden_state))",
     "given to the LSTM in the wrong order"),
    ("Decoder", DECODER, "(decoder_hidden_state, decoder_cell_state))", "(decoder_hidden_state, decoder_hidden_state))",
     "the LSTM gets the hidden state twice"),
    ("DecoderWithAttention", WITH_ATTENTION, "self.attention(encoder_out, decoder_hidden_state)",
     "self.attention(encoder_out, decoder_cell_state)", "the attention gets the cell state"),
    ("DecoderWithAttention", WITH_ATTENTION, "context], dim=1)", "context.detach()], dim=1)",
     "the scores pass no gradient on to the attention"),
    ("Decoder", DECODER, "self.embedding(word)", "self.dropout(self.embedding(word))",
     "dropout changes the returned hidden state"),
)  # fmt: skip
