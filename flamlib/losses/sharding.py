"""Several processes, each with its share of a step: what they tell each other, and in what order.

Without a process group there is one process, and everything here works as if the others were empty.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

# What is done with rows that come by: what they hold, what they carry home, and, where they are
# this process's own, which of its rows they are.
Visit = Callable[[tuple[Tensor, ...], Tensor, slice | None], None]


class Ring:
    """The processes of a group in a circle: each passes on to its two neighbours."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        """The given group; None is the default one, or this process alone where there is none."""
        alone = not (dist.is_available() and dist.is_initialized())
        self.group = group
        self.size = 1 if alone else dist.get_world_size(group)
        self.rank = 0 if alone else dist.get_rank(group)

    def total(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """The sum of all processes' tensors, without gradients."""
        x = x.detach().clone()
        if self.size > 1:
            dist.all_reduce(x, group=self.group)
        return x

    def sizes(self, n: int, device: torch.device) -> list[int]:
        """The number that each process gives."""
        if self.size == 1:
            return [n]
        found = torch.zeros(self.size, dtype=torch.int64, device=device)
        found[self.rank] = n
        return self.total(found).tolist()

    def circulate(
        self,
        payload: Sequence[Tensor],
        carry: Shaped[Tensor, "row ..."],
        visit: Visit,
        *,
        rows: int,
    ) -> None:
        """Show every row of every process to every process, at most `rows` of them at a time.

        `payload` are tensors of which this process owns so many rows as `carry` has. Its rows leave
        in parts, alternately to the right and to the left, and go once round the circle. Wherever
        they come by, their owner included, `visit(payload, carry, own)` reads the part's payload
        and adds to its carry in place; `own` is the part's place among this process's rows, or
        None for the rows of another. Then `carry` holds what has been added to it everywhere.

        While one part is computed, its counterpart is on its way in the other direction. No
        process ever holds more than two parts and the two that follow them, however many processes
        there are. They may own different numbers of rows.
        """
        if self.size == 1:
            for start in range(0, len(carry), rows):
                own = slice(start, min(start + rows, len(carry)))
                visit(tuple(x[own] for x in payload), carry[own], own)
            return
        sizes = self.sizes(len(carry), carry.device)
        n_rounds = math.ceil(max(sizes) / (2 * rows))
        for i in range(n_rounds):
            ways = ((1, 2 * i), (-1, 2 * i + 1))
            parts = [
                _Part(self, way, [_share(n, place, 2 * n_rounds) for n in sizes], payload, carry)
                for way, place in ways
            ]
            for _ in range(self.size):
                for part in parts:
                    part.arrive()
                    if part.n_rows:
                        visit(part.payload, part.carry, part.own)
                    part.depart()
            for part in parts:
                part.arrive()
                carry[part.own] = part.carry

    def peer(self, way: int) -> int:
        """The neighbour to the right (1) or to the left (-1), by its global rank."""
        rank = (self.rank + way) % self.size
        return rank if self.group is None else dist.get_global_rank(self.group, rank)


class _Part:
    """Rows on their way round the circle in one direction."""

    def __init__(
        self,
        ring: Ring,
        way: int,
        places: list[slice],
        payload: Sequence[Tensor],
        carry: Tensor,
    ) -> None:
        self.ring, self.way, self.places = ring, way, places
        self.payload = tuple(x[places[ring.rank]].contiguous() for x in payload)
        self.carry = carry[places[ring.rank]].contiguous()
        self.n_hops = 0
        self.arriving: list[dist.Work] = []
        self.incoming: tuple[tuple[Tensor, ...], Tensor] | None = None

    @property
    def owner(self) -> int:
        return (self.ring.rank - self.way * self.n_hops) % self.ring.size

    @property
    def n_rows(self) -> int:
        return self.places[self.owner].stop - self.places[self.owner].start

    @property
    def own(self) -> slice | None:
        return self.places[self.ring.rank] if self.owner == self.ring.rank else None

    def depart(self) -> None:
        """Start to pass on what is here and to take in what comes next."""
        self.n_hops += 1
        home = self.n_hops == self.ring.size  # its owner knows what it holds
        payload = () if home else self.payload
        following = tuple(x.new_empty(self.n_rows, *x.shape[1:]) for x in payload)
        carry = self.carry.new_empty(self.n_rows, *self.carry.shape[1:])
        ahead, behind = self.ring.peer(self.way), self.ring.peer(-self.way)
        moves = [(dist.isend, x, ahead) for x in (*payload, self.carry)]
        moves += [(dist.irecv, x, behind) for x in (*following, carry)]
        # Both ends know how many rows a part has, so nothing is sent for none. The tag is for two
        # processes, which are each other's neighbours on both sides.
        operations = [
            dist.P2POp(move, x, peer, self.ring.group, tag=self.way + 1)
            for move, x, peer in moves
            if x.numel()
        ]
        self.arriving = dist.batch_isend_irecv(operations) if operations else []
        self.incoming = (following, carry)

    def arrive(self) -> None:
        """Wait for what was on its way; nothing is before the first departure."""
        for work in self.arriving:
            work.wait()
        if self.incoming is not None:
            self.payload, self.carry = self.incoming
        self.arriving, self.incoming = [], None


def _share(n: int, place: int, n_parts: int) -> slice:
    """The rows of part `place` where n rows are cut into `n_parts` parts."""
    return slice(n * place // n_parts, n * (place + 1) // n_parts)
