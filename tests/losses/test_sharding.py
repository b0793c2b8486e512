import pytest
import ranks
import torch
import torch.distributed as dist

from flamlib.losses.sharding import Ring

# How many rows each process owns.
OWNED = {1: [3], 2: [5, 2], 3: [0, 4, 3], 4: [1, 2, 3, 4], 5: [0, 0, 7, 0, 1]}

each_size = pytest.mark.parametrize("n_ranks", OWNED)
each_part = pytest.mark.parametrize("rows", [1, 2, 100])


def table(rank, n):
    """Rows that say whose they are."""
    return torch.tensor([[rank, row] for row in range(n)], dtype=torch.int64).reshape(n, 2)


def tour(rank, owned, rows):
    """What came by, what of it was said to be one's own, the most at a time; what came home."""
    own, seen, mine = table(rank, owned[rank]), [], []
    carry = torch.zeros(len(own), len(owned))

    def visit(payload, carry, place):
        seen.append(payload[0].clone())
        if place is not None:
            assert torch.equal(payload[0], own[place])
            mine.append(payload[0].clone())
        carry[:, rank] += payload[0][:, 1] + 1

    Ring().circulate((own,), carry, visit, rows=rows)
    return {"seen": torch.cat(seen), "mine": torch.cat([own[:0], *mine]),
            "most": max(map(len, seen)), "home": carry}  # fmt: skip


def in_order(rows):
    return sorted(map(tuple, rows.tolist()))


@each_size
@each_part
def test_every_row_comes_by_everywhere_exactly_once(n_ranks, rows):
    owned = OWNED[n_ranks]
    everything = [(rank, row) for rank, n in enumerate(owned) for row in range(n)]
    for rank, found in enumerate(ranks.together(n_ranks, tour, owned, rows)):
        assert in_order(found["seen"]) == everything
        assert in_order(found["mine"]) == [row for row in everything if row[0] == rank]
        assert found["most"] <= rows


@each_size
@each_part
def test_a_row_brings_home_what_every_process_gave_it(n_ranks, rows):
    owned = OWNED[n_ranks]
    for rank, found in enumerate(ranks.together(n_ranks, tour, owned, rows)):
        given = torch.arange(1.0, owned[rank] + 1)[:, None].expand(-1, n_ranks)
        assert torch.equal(found["home"], given)


def test_no_process_group_is_one_process():
    found = tour(0, [4], 3)
    assert in_order(found["seen"]) == [(0, row) for row in range(4)]
    assert found["home"].tolist() == [[1], [2], [3], [4]]
    assert Ring().total(torch.tensor(3.0)) == 3


def directions(rank):
    """To which neighbours rows were sent."""
    operation, sent = dist.P2POp, []

    def noted(op, x, peer, *args, **kwargs):
        if op is dist.isend:
            sent.append(peer)
        return operation(op, x, peer, *args, **kwargs)

    dist.P2POp = noted
    tour(rank, [4] * dist.get_world_size(), 2)
    return sent


def test_rows_travel_in_both_directions_and_only_between_neighbours():
    for rank, sent in enumerate(ranks.together(4, directions)):
        right, left = (rank + 1) % 4, (rank - 1) % 4
        assert set(sent) == {right, left}
        assert sent.count(right) == sent.count(left)
