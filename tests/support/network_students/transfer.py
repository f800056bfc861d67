"""What good students hand in for Question 5 of eecs545-w20-hw4, in two styles, with what public solutions get wrong."""

TRAIN = """
import copy, time
import matplotlib.pyplot as plt
import torch
import torch.nn as nn
import torch.optim as optim
import torchvision
from torch.optim import lr_scheduler
from torchvision import datasets, models, transforms

def train_model(device, dataloaders, dataset_sizes, model, criterion, optimizer, scheduler, num_epochs=25):
    best_model_wts = copy.deepcopy(model.state_dict())
    best_acc = 0.0
    for epoch in range(num_epochs):
        print("Epoch {}/{}".format(epoch, num_epochs - 1))
        for phase in ["train", "val"]:
            if phase == "train":
                model.train()
            else:
                model.eval()
            running_loss, running_corrects = 0.0, 0
            for inputs, labels in dataloaders[phase]:
                inputs, labels = inputs.to(device), labels.to(device)
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == labels.data)
            if phase == "train":
                scheduler.step()
            epoch_acc = running_corrects.double() / dataset_sizes[phase]
            if phase == "val" and epoch_acc > best_acc:
                best_acc = epoch_acc
                best_model_wts = copy.deepcopy(model.state_dict())
    model.load_state_dict(best_model_wts)
    return model
"""

FINETUNE = """
def visualize_model(device, dataloaders, model, class_names, num_images=6):
    was_training = model.training
    model.eval()
    shown = 0
    plt.figure()
    with torch.no_grad():
        for inputs, labels in dataloaders["val"]:
            outputs = model(inputs.to(device))
            _, preds = torch.max(outputs, 1)
            for j in range(inputs.size()[0]):
                shown += 1
                ax = plt.subplot(num_images // 2, 2, shown)
                ax.axis("off")
                ax.set_title("predicted: {}".format(class_names[preds[j]]))
                plt.imshow(inputs.cpu().data[j].permute(1, 2, 0))
                if shown == num_images:
                    plt.savefig("shown.png")
                    plt.show()
                    model.train(mode=was_training)
                    return
    model.train(mode=was_training)

def finetune(device, dataloaders, dataset_sizes, class_names):
    model_ft = models.resnet18(pretrained=True)
    num_ftrs = model_ft.fc.in_features
    model_ft.fc = nn.Linear(num_ftrs, 2)
    model_ft = model_ft.to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer_ft = optim.SGD(model_ft.parameters(), lr=0.001, momentum=0.9)
    exp_lr_scheduler = lr_scheduler.StepLR(optimizer_ft, step_size=7, gamma=0.1)
    model_ft = train_model(device, dataloaders, dataset_sizes, model_ft, criterion, optimizer_ft, exp_lr_scheduler)
    visualize_model(device, dataloaders, model_ft, class_names)
"""

FREEZE = """
def freeze(device, dataloaders, dataset_sizes, class_names):
    model_conv = torchvision.models.resnet18(pretrained=True)
    for param in model_conv.parameters():
        param.requires_grad = False
    model_conv.fc = nn.Linear(model_conv.fc.in_features, len(class_names))
    model_conv = model_conv.to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer_conv = optim.SGD(model_conv.fc.parameters(), lr=0.001, momentum=0.9)
    exp_lr_scheduler = lr_scheduler.StepLR(optimizer_conv, step_size=7, gamma=0.1)
    model_conv = train_model(device, dataloaders, dataset_sizes, model_conv, criterion, optimizer_conv,
                             exp_lr_scheduler, num_epochs=25)
    visualize_model(device, dataloaders, model_conv, class_names)
"""

OTHER_TRAIN = """
import copy
import torch
from torch import nn, optim
from torchvision.models import ResNet18_Weights, resnet18

def train_model(device, dataloaders, dataset_sizes, model, criterion, optimizer, scheduler, num_epochs=25):
    best = (-1, None)
    for _ in range(num_epochs):
        model.train(True)
        for x, y in dataloaders["train"]:
            model.zero_grad(set_to_none=True)
            criterion(model(x), y).backward()
            optimizer.step()
        scheduler.step()
        model.train(False)
        hits = 0
        with torch.inference_mode():
            for x, y in dataloaders["val"]:
                hits += (model(x).argmax(dim=1) == y).sum().item()
        if hits / dataset_sizes["val"] > best[0]:
            best = hits / dataset_sizes["val"], copy.deepcopy(model.state_dict())
    if best[1]:
        model.load_state_dict(best[1])
    return model, best[0]

def visualize_model(device, dataloaders, model, class_names, num_images=6):
    training = model.training
    model.eval()
    images, captions = [], []
    for inputs, labels in dataloaders["val"]:
        for image, label, scores in zip(inputs, labels, model(inputs)):
            images.append(image)
            captions.append(f"{class_names[label]}\\npredicted: {class_names[scores.argmax()]}")
    model.train(training)
    return images[:num_images], captions[:num_images]

def _start(classes):
    network = resnet18(weights=ResNet18_Weights.DEFAULT)
    inputs = network.fc.in_features
    return network, inputs

def finetune(device, dataloaders, dataset_sizes, class_names, num_epochs=10):
    network, inputs = _start(class_names)
    network.fc = nn.Sequential(nn.Linear(inputs, len(class_names)))
    optimizer = optim.SGD([p for p in network.parameters()], lr=1e-3, momentum=0.9)
    schedule = optim.lr_scheduler.StepLR(optimizer, 7)
    train_model(device, dataloaders, dataset_sizes, network, nn.CrossEntropyLoss(), optimizer, schedule, num_epochs=0)
    criterion = nn.CrossEntropyLoss()
    return train_model(device, dataloaders, dataset_sizes, network, criterion, optimizer, schedule, num_epochs)

def freeze(device, dataloaders, dataset_sizes, class_names, num_epochs=10):
    network, inputs = _start(class_names)
    network.requires_grad_(False)
    network.fc = nn.Linear(inputs, len(class_names))
    optimizer = optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    schedule = optim.lr_scheduler.StepLR(optimizer, 7)
    return train_model(device, dataloaders, dataset_sizes, network, nn.CrossEntropyLoss(), optimizer, schedule)
"""

ALL = TRAIN + FINETUNE + FREEZE
GOOD = ({"transfer_learning.py": ALL}, {"code/my transfer.py": OTHER_TRAIN})

# Each: the class or function, the good text, text in it, what stands there instead, and a part of the hint.
MISTAKES = (
    ("train_model", ALL, "                optimizer.zero_grad()\n", "",
     "gradients of the previous batch are not set to zero"),
    ("train_model", ALL, "                        optimizer.step()\n", "", "there is no step of the optimizer"),
    ("train_model", ALL, "                model.eval()", "                pass", "validates in training mode"),
    ("train_model", ALL, "                    if phase == \"train\":\n", "                    if True:\n",
     "raises RuntimeError"),
    ("train_model", ALL, "criterion(outputs, labels)", "criterion(outputs.softmax(1), labels)",
     "a softmax comes before"),
    ("train_model", ALL, "                    _, preds =", "                    preds, _ =",
     "returns the weights from before the training"),
    ("train_model", ALL, "torch.max(outputs, 1)\n                    loss",
     "torch.max(outputs, 0)\n                    loss",
     "preds must be taken over dim 1; dim 0 is the batch"),
    ("visualize_model", ALL, "_, preds = torch.max(outputs, 1)\n            for",
     "_, preds = torch.min(outputs, 1)\n            for",
     "network's: is the class with the smallest score taken"),
    ("visualize_model", ALL, "class_names[preds[j]]", "class_names[labels[j]]", "predicted class that differs from"),
    ("visualize_model", ALL, "    model.eval()\n    shown", "    shown", "predicts in training mode"),
    ("visualize_model", ALL, "                    model.train(mode=was_training)\n", "",
     "leaves the network in eval mode"),
    ("visualize_model", ALL, "ax.set_title(", "print(", "names the predicted class of 0 images"),
    ("finetune", FINETUNE + "\n" + TRAIN, "nn.CrossEntropyLoss()", "nn.NLLLoss()", "the criterion is nn.NLLLoss"),
    ("freeze", TRAIN + FREEZE, "criterion = nn.CrossEntropyLoss()", "criterion = nn.MSELoss()", "the criterion is not"),
    ("freeze", ALL, "param.requires_grad = False", "param.require_grad = False", "requires_grad is still True"),
    ("train_model", ALL, "    model.load_state_dict(best_model_wts)\n", "", "returns the weights of the last epoch"),
    ("train_model", ALL, "best_model_wts = copy.deepcopy(model.state_dict())\n    model",
     "best_model_wts = model.state_dict()\n    model",
     "returns the weights of the last epoch"),
    ("train_model", ALL, "    return model\n\ndef vis", "\n\ndef vis", "does not return the network"),
    ("train_model", ALL, "criterion(outputs, labels)", "criterion(outputs, 1 - labels)",
     "the weights after an epoch differ"),
    ("finetune", ALL, "num_ftrs, 2)", "num_ftrs, 1000)", "has 1000 outputs"),
    ("finetune", ALL, "    model_ft.fc = nn.Linear(num_ftrs, 2)\n", "", "is not replaced by a new one"),
    ("finetune", ALL, "optim.SGD(model_ft.parameters()", "optim.SGD(model_ft.fc.parameters()",
     "only the last layer moves"),
    ("finetune", ALL, "models.resnet18(pretrained=True)\n    num", "models.resnet18()\n    num",
     "does not start from pretrained"),
    ("freeze", ALL.replace("model_conv.fc.parameters()", "model_conv.parameters()"), "param.requires_grad = False",
     "pass",
     "nothing is frozen: all layers move"),
    ("freeze", ALL.replace("model_conv.fc.parameters()", "model_conv.parameters()"), "param.requires_grad = False",
     "param.requires_grad_ = False", "the attribute requires_grad_ has no effect"),
    ("freeze", ALL.replace("model_conv.fc.parameters()", "filter(lambda p: p.requires_grad, model_conv.parameters())"),
     "param.requires_grad = False", "param.requires_grad = param.ndim == 1", "the batch normalization moves"),
    ("finetune", ALL, "    num_ftrs = model_ft.fc.in_features\n",
     "    num_ftrs, old = 512, list(model_ft.parameters())\n    model_ft.parameters = lambda: old\n",
     "the optimizer does not get the new last layer"),
    ("train_model", ALL, "                    if phase == \"train\":\n                        loss.backward()\n",
     "                    if phase == \"train\":\n                        scheduler.step()\n"
     "                        loss.backward()\n", "the scheduler makes 16 steps in 4 epochs"),
    ("train_model", ALL, "if phase == \"val\" and epoch_acc", "if phase == \"train\" and epoch_acc",
     "of the epoch with the best training accuracy"),
    ("freeze", ALL, "    model_conv.fc = nn.Linear(model_conv.fc.in_features, len(class_names))\n", "",
     "not replaced by a new one"),
    ("freeze", ALL, "    optimizer_conv = ", "    model_conv.requires_grad_(False)\n    optimizer_conv = ",
     "requires_grad of its weights is False"),
)  # fmt: skip
