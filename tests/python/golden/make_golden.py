"""Writes PyTorch's answers to the golden files beside this script: python make_golden.py

Needs PyTorch and safetensors. The questions are in configurations.py and training_cases.py.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

import configurations  # noqa: E402
import torch  # noqa: E402
import torch_peer  # noqa: E402
import training_cases  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402


def lstm_answers():
    answers = {}
    for configuration in configurations.CONFIGURATIONS:
        answer = torch_peer.answer(configuration, configurations.numbers(configuration))
        for name, value in answer.items():
            answers[f"{configuration.index}.{name}"] = configurations.sample(value, configurations.sample_limit(name))
    return answers


def chain_outputs():
    """The first output of every training case's network."""
    answers = {}
    for case in training_cases.CASES:
        x, _, lengths = case.batch(0)
        x = torch.tensor(x) if case.vocabulary else torch_peer.tensor(x, torch.float64)
        output, _ = torch_peer.run_chain(case, torch_peer.chain(case), x, lengths, None)
        answers[case.name] = output.detach().numpy()
    return answers


def main():
    metadata = {"torch": torch.__version__}
    save_file(lstm_answers(), HERE / "lstm.safetensors", metadata)
    save_file(chain_outputs(), HERE / "networks.safetensors", metadata)
    losses = {case.name: torch_peer.train(case, training_cases.STEPS) for case in training_cases.CASES}
    save_file(losses, HERE / "training.safetensors", metadata)


if __name__ == "__main__":
    main()
