"""Reading a file that grows."""

from launch.tail import Tail


def test_each_completed_line_is_given_once(tmp_path):
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.read_new() == []
    with path.open("w") as log:
        log.write("one\ntw")
        log.flush()
        assert tail.read_new() == ["one"]
        assert tail.read_new() == []
        log.write("o\nthree\n")
    assert tail.read_new() == ["two", "three"]
    assert tail.lines == ["one", "two", "three"]
