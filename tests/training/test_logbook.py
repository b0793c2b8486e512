from flamlib.training import logbook
from flamlib.training.logbook import Clock, Logbook


def column(curves, name):
    """What DVCLive's table of a number says: its steps and its values."""
    lines = (curves / f"plots/metrics/{name}.tsv").read_text().splitlines()[1:]
    return [[float(x) for x in line.split("\t")[-2:]] for line in lines]


def test_a_row_is_kept_and_in_the_tables(tmp_path):
    book = Logbook(tmp_path, [], speeds=tmp_path / "s.tsv", first=0, n_steps=3, shown=True)
    book.add(1, {"loss": 2.0})
    book.add(2, {})
    book.add(3, {"loss": 1.0, "lr": 0.5})
    book.close()
    assert book.history == [{"step": 1, "loss": 2.0}, {"step": 3, "loss": 1.0, "lr": 0.5}]
    assert column(tmp_path, "loss") == [[1, 2.0], [3, 1.0]]
    assert column(tmp_path, "lr") == [[3, 0.5]]


def test_a_run_that_goes_on_has_its_whole_past_in_the_tables(tmp_path):
    past = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]
    book = Logbook(tmp_path, past, speeds=tmp_path / "s.tsv", first=2, n_steps=3, shown=True)
    book.add(3, {"loss": 1.0})
    book.close()
    assert column(tmp_path, "loss") == [[1, 3.0], [2, 2.0], [3, 1.0]]


def test_a_process_that_is_not_shown_writes_nothing(tmp_path, capfd):
    book = Logbook(tmp_path, [], speeds=tmp_path / "s.tsv", first=0, n_steps=1, shown=False)
    book.add(1, {"loss": 2.0})
    book.close()
    assert book.history == [{"step": 1, "loss": 2.0}]
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_speeds_are_in_no_row_and_in_a_file_of_their_own(tmp_path):
    curves, speeds = tmp_path / "curves", tmp_path / "flam.speeds.tsv"

    def log(steps, history, speed):
        book = Logbook(curves, history, speeds=speeds, first=steps[0] - 1, n_steps=3, shown=True)
        for step in steps:
            book.add(step, {"loss": 1.0}, {"clips_per_s": speed, "compute_share": 0.5})
        book.close()
        return book.history

    header = "step\tclips_per_s\tcompute_share\n"
    log([1], [], 99.0)
    history = log([1, 2], [], 20.0)  # from the start: what was there is of another run
    log([3], history, 25.0)  # killed before its state was saved
    history = log([3], history[:2], 30.0)  # goes on
    assert speeds.read_text() == header + "1\t20\t0.5\n2\t20\t0.5\n3\t30\t0.5\n"
    assert history == [{"step": step, "loss": 1.0} for step in (1, 2, 3)]
    tables = {path.stem for path in curves.rglob("*.tsv")}
    assert tables == {"loss"}


def test_the_bar_shows_losses(tmp_path, capfd):
    book = Logbook(tmp_path, [], speeds=tmp_path / "s.tsv", first=4, n_steps=5, shown=True)
    book.add(5, {"loss": 2.0, "valid_loss": 3.0, "lr": 0.25})
    book.close()
    shown = capfd.readouterr().err
    assert "loss=2.00, valid_loss=3.00" in shown
    assert "5/5" in shown
    assert "lr" not in shown


def test_a_clock_tells_waiting_from_computing(monkeypatch):
    times = iter([0.0, 1.0, 4.0, 5.0, 8.0, 100.0, 101.0, 102.0])
    monkeypatch.setattr(logbook.time, "perf_counter", lambda: next(times))
    clock = Clock()
    for _ in range(2):
        clock.lap("load")
        clock.lap("compute")
    assert clock.rates(4) == {"clips_per_s": 2 * 4 / 8, "compute_share": 6 / 8}
    clock.skip()  # 92 seconds of something else
    clock.lap("load")
    clock.lap("compute")
    assert clock.rates(4) == {"clips_per_s": 4 / 2, "compute_share": 1 / 2}
