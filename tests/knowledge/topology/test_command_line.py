"""Pasted launches: every way people write one comes to the same layout."""

from __future__ import annotations

import pytest

from knowledge.errors import BadInputError
from knowledge.topology.command_line import layout_in, merged, read_command, read_commands

_MODEL = "deepseek-ai/DeepSeek-V3"


@pytest.mark.parametrize(
    "text",
    [
        f"vllm serve {_MODEL} -tp 8 -dp 2 -ep",
        f"vllm serve {_MODEL} --tensor-parallel-size=8 --data-parallel-size 2 --enable-expert-parallel",
        f"vllm serve {_MODEL} --tensor_parallel_size 8 --data_parallel_size=2 --enable_expert_parallel",
        f"vllm serve {_MODEL} \\\n  -tp 8 \\\n  -dp 2 \\\n  --enable-expert-parallel",
        f"vllm serve {_MODEL}\n  -tp 8\n  -dp 2\n  --enable-expert-parallel",
        f"NCCL_DEBUG=INFO python3 -m vllm.entrypoints.openai.api_server --model {_MODEL} -tp 8 -dp 2 -ep 2>&1 | tee log",
        f"docker run --gpus all -p 8000:8000 --ipc=host vllm/vllm-openai:latest --model {_MODEL} -tp 8 -dp 2 -ep",
        f"Try this: `vllm serve {_MODEL} -tp 8 -dp 2 -ep` and tell me",
        f'command: ["vllm", "serve", "{_MODEL}"]\nargs: ["-tp", "8", "-dp=2", "--enable-expert-parallel"]\n',
        f'image: vllm/vllm-openai:v0.33.0\nargs:\n- --model={_MODEL}\n- --tensor-parallel-size\n- "8"\n- -dp=2\n- -ep\n',
        f"command:\n  - /bin/sh\n  - -c\nargs:\n  - vllm serve {_MODEL} -tp 8 -dp 2 -ep\n",
    ],
)
def test_every_spelling_gives_the_same_layout(text: str) -> None:
    """Short and long flags, `=` and space, lines, docker and Kubernetes come to one layout without a complaint."""
    read = read_command(text, "0.33.0")
    one = read.layout
    assert (one.tp, one.dp, one.enable_expert_parallel, one.model) == (8, 2, True, _MODEL)
    assert read.unknown_flags == ()


@pytest.mark.parametrize(
    "flag",
    [
        "--eplb-config '{\"num_redundant_experts\": 32}'",
        "--eplb-config.num_redundant_experts 32",
        "--eplb-config.num-redundant-experts=32",
    ],
)
def test_json_and_dotted_arguments_are_read(flag: str) -> None:
    """The redundant experts are found in JSON and behind a dot."""
    read = read_command(f"vllm serve {_MODEL} -dp 8 -ep --enable-eplb {flag}", "0.33.0")
    assert (read.layout.redundant_experts, read.layout.enable_eplb) == (32, True)
    assert read.unknown_flags == ()


def test_variables_in_front_and_negated_switches_count() -> None:
    """A layer partition is taken from the environment, and `--no-…` switches off, the last one winning."""
    text = f"VLLM_PP_LAYER_PARTITION=30,31 vllm serve {_MODEL} -pp 2 --enable-expert-parallel --no-enable-expert-parallel"
    layout = read_command(text, "0.33.0").layout
    assert layout.layer_partition == (30, 31)
    assert layout.enable_expert_parallel is False


def test_variables_of_a_kubernetes_container_count() -> None:
    """The env list of a container decides like a variable in front."""
    text = (
        f'env:\n- name: VLLM_PP_LAYER_PARTITION\n  value: "30,31"\ncommand: ["vllm", "serve"]\nargs: ["{_MODEL}", "-pp", "2"]\n'
    )
    assert read_command(text, "0.33.0").layout.layer_partition == (30, 31)


def test_places_among_nodes_are_read() -> None:
    """Local DP ranks, the start rank, headless and load balancing come with the launch."""
    read = read_command(f"vllm serve {_MODEL} -dp 16 -dpl 8 -dpr 8 -dpa 10.0.0.1 -dpp 13345 --headless -ep", "0.33.0")
    assert (read.local_dp, read.start_rank, read.headless, read.gpus_per_node) == (8, 8, True, 8)
    assert read_command(f"vllm serve {_MODEL} -dp 16 -dpn 3", "0.33.0").balancer == "external"
    assert read_command(f"vllm serve {_MODEL} -dp 16 -dpl 8 -dph", "0.33.0").balancer == "hybrid"
    assert read_command(f"vllm serve {_MODEL} -tp 8 -pp 2 -n 2 -r 1", "0.33.0").gpus_per_node == 8


def test_several_nodes_make_one_deployment() -> None:
    """Two nodes' commands are two launches of one layout."""
    text = f"vllm serve {_MODEL} -dp 16 -dpl 8 -ep\n\nvllm serve {_MODEL} -dp 16 -dpl 8 -dpr 8 -ep --headless"
    reads = read_commands(text, "0.33.0")
    assert [read.start_rank for read in reads] == [None, 8]
    assert (merged(reads).nodes, merged(reads).gpus_per_node) == (2, 8)


def test_nodes_that_contradict_each_other_are_refused() -> None:
    """Different sizes on two nodes are one sentence with both values."""
    reads = read_commands(f"vllm serve {_MODEL} -tp 8\nvllm serve {_MODEL} -tp 4", "0.33.0")
    with pytest.raises(BadInputError, match="Command 1 has tp=8 and command 2 has tp=4"):
        merged(reads)


@pytest.mark.parametrize(
    ("flag", "release", "hint"),
    [
        ("--expert-parallel-size 8", "0.33.0", "--enable-expert-parallel"),
        ("--num-redundant-experts 32", "0.33.0", "--eplb-config.num_redundant_experts"),
        ("--enable-eplb", "0.8.5", "vLLM 0.9.2 or later"),
        ("-pcp 2", "0.11.0", "vLLM 0.12.0 or later"),
        ("--tensor-paralel-size 8 --tensor-parallell-size 2", "0.33.0", "--tensor-parallel-size"),
    ],
)
def test_a_flag_the_release_does_not_have_is_named_with_what_replaces_it(flag: str, release: str, hint: str) -> None:
    """A flag that never was, is gone or is to come is named with what to use."""
    read = read_command(f"vllm serve {_MODEL} {flag}", release)
    assert read.unknown_flags
    assert any(hint in one for one in read.hints)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("how are you", "No `vllm serve"),
        (f"vllm serve {_MODEL} -tp eight", "--tensor-parallel-size needs a whole number, not 'eight'"),
        (f"vllm serve {_MODEL} -tp -2", "not '-2'"),
        (f"vllm serve {_MODEL} -tp $TP", r"not '\$TP'"),
        (f"vllm serve {_MODEL} -tp", "not ''"),
        (f"vllm serve {_MODEL} --eplb-config many", "--eplb-config needs a JSON object, not 'many'"),
        (f"VLLM_PP_LAYER_PARTITION=half vllm serve {_MODEL} -pp 2", "VLLM_PP_LAYER_PARTITION='half'"),
        ("vllm serve " + "x" * 10_000_000, "10000011 characters long; at most 200000"),
    ],
)
def test_bad_commands_are_one_sentence(text: str, said: str) -> None:
    """What cannot be read is named with its value and what to do."""
    with pytest.raises(BadInputError, match=said):
        read_command(text, "0.33.0")


def test_a_question_without_a_launch_has_none() -> None:
    """Plain words and overlong text are no launch."""
    assert layout_in("which ranks share an EP group?", "0.33.0") is None
    assert layout_in("vllm serve " + "x" * 300_000, "0.33.0") is None
