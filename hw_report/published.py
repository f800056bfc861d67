"""Published numbers for the questions of the sheets, as they are printed beside ours."""

from collections.abc import Mapping
from types import MappingProxyType

from hw_asr import presets as asr
from hw_caption import presets as caption
from hw_ocr import presets as ocr

_UNITS = {"test_accuracy": "", "test_word_accuracy": ".words"}  # accuracy by letter and by word
# The numbers by key.
PUBLISHED: Mapping[str, str] = MappingProxyType({
    "fashion.lr0.001": "0.8572",  # validation accuracy, last epoch, dropout 0.3
    "fashion.lr0.01": "0.9111",
    "fashion.lr0.1": "0.9016",
    "oct.maxpool": "0.830 ± 0.008",  # test accuracy on the course's 529 images, eleven reports
    "oct.no-maxpool": "0.808 ± 0.015",
    "pneumonia.accuracy": "0.854",  # PneumoniaMNIST, a ResNet-18 in MedMNIST v2
    "pneumonia.auc": "0.944",
    "softmax": "0.9767",  # test accuracy
    "softmax.hidden-units": "150",
    "cnn": "0.9795–0.9803",  # test accuracy
    "captions.first-loss": "78",  # training loss on COCO
    "captions.last-loss": "0.1",
    "transfer.finetune": "0.92–0.95",  # validation accuracy, best epoch, ImageNet's weights
    "transfer.freeze": "0.94–0.96",
    **{f"ocr.{row}{_UNITS[metric]}": f"{value:.4f}" for row, numbers in ocr.PUBLISHED.items()
       for metric, value in numbers.items()},
    "ocr.best": "0.9920",  # test accuracy by letter, a BiLSTM of two layers with 256 units
    # Test BLEU-4, the better of two groups, ImageNet's weights.
    **{f"caption.{decoder}": f"{value:.3f}" for decoder, value in caption.PUBLISHED.items()},
    # Test loss and similarities.
    **{f"asr.{decoder}.{name.replace('_', '-')}": value for decoder, numbers in asr.PUBLISHED.items()
       for name, value in numbers.items()},
    "asr.transformer.loss": "1.1604 ± 0.0003",  # test loss, twelve reports
    "an4.cer": "0.036",  # error rates on AN4's test utterances, ESPnet's recipe without a language model
    "an4.wer": "0.076",
})  # fmt: skip
# Validation accuracy of the Fashion-MNIST network after each epoch, with learning rate 0.01 and dropout 0.3.
FASHION_BY_EPOCH = (
    0.8120, 0.8514, 0.8660, 0.8738, 0.8830, 0.8848, 0.8943, 0.8929,
    0.9040, 0.9011, 0.9049, 0.9038, 0.9086, 0.9138, 0.9111,
)  # fmt: skip
