"""What the scripts share: the weights they use, and how they stop."""

import pytest

from common import cli
from common.errors import InputError, OutputError


def arguments(*given):
    parser = cli.make_parser("Does a thing.")
    cli.add_weights(parser)
    return parser.parse_args(list(map(str, given)))


def test_weights_are_those_named_else_the_checkpoints(tmp_path, capsys):
    checkpoint = tmp_path / "tmp_checkpoint" / "best_model.h5"
    args = arguments("--data-dir", tmp_path)
    assert cli.weights_of(args, needed=False) == checkpoint
    with pytest.raises(SystemExit) as stopped:
        cli.weights_of(args)
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and printed.count("\n") == 1
    assert str(checkpoint) in printed and "Run 03_train_cnn.py first" in printed
    checkpoint.parent.mkdir()
    checkpoint.touch()
    assert cli.weights_of(args) == checkpoint
    elsewhere = arguments("--checkpoint-dir", checkpoint.parent, "--data-dir", tmp_path / "none")
    assert cli.weights_of(elsewhere) == checkpoint
    named = arguments(
        "--data-dir", tmp_path, "--weights", tmp_path / "other.h5"
    )  # who reads it says that it is missing
    assert cli.weights_of(named) == tmp_path / "other.h5"


@pytest.mark.parametrize(
    "error, status, line",
    [
        (InputError("x.png is broken"), 2, "error: x.png is broken"),
        (OutputError("cannot write x"), 2, "error: cannot write x"),
        (KeyboardInterrupt(), 130, "interrupted; run it again"),
    ],
)
def test_what_stops_a_script_is_one_line_and_a_status(capsys, error, status, line):
    @cli.stops_in_words
    def main(argv=None):
        if argv is not None:
            return len(argv)
        raise error

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == status and capsys.readouterr().err == f"{line}\n"
    assert main([]) == 0 and main(["a"]) == 1 and main.__name__ == "main"


def test_a_mistake_of_ours_keeps_its_traceback(capsys):
    @cli.stops_in_words
    def main(argv=None):
        return [][0]

    with pytest.raises(IndexError):
        main([])  # from another program
    with pytest.raises(SystemExit, match="2"):  # 1 would mean that some inputs failed
        main()
    assert "IndexError" in capsys.readouterr().err
