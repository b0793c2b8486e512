"""Ring communication between processes: every process sees the rows of every other.

Without a process group there is one process, which sees its own rows only.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

# Called with rows that pass by: their payload; the carry, to be added to in place; and their place
# among this process's own rows, None for rows of another.
Visit = Callable[[tuple[Tensor, ...], Tensor, slice | None], None]


class Ring:
    """All processes in a ring: each sends to its two neighbours."""

    def __init__(self) -> None:
        """Use the default process group, or this process alone if there is none."""
        alone = not (dist.is_available() and dist.is_initialized())
        self.size = 1 if alone else dist.get_world_size()
        self.rank = 0 if alone else dist.get_rank()

    def total(self, x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Return the sum of all processes' tensors, without gradients."""
        x = x.detach().clone()
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def sizes(self, n: int, device: torch.device) -> list[int]:
        """Return the number `n` of each process."""
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
        """Send every row of every process round the ring, so that every process visits it.

        Rows travel in parts, alternately to the right and to the left, once round the ring. While
        one part is computed on, its counterpart is being sent in the other direction. A process
        never has more than two parts and the two that follow them in memory, however many processes
        there are.

        Args:
            payload: Tensors with the same number of rows each. Processes may have different numbers
                of rows.
            carry: A row for each row of the payload. Afterwards it contains what every process has
                added to it.
            visit: Called on every process, the owner included, with each part's payload, its carry,
                to be added to in place, and its place among the own rows or None.
            rows: Highest number of rows of a part.
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
        """Return the rank of the neighbour to the right (1) or to the left (-1)."""
        return (self.rank + way) % self.size


class _Part:
    """Rows on their way round the ring in one direction."""

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
        """Start to send this part to the next process and to receive the following one."""
        self.n_hops += 1
        home = self.n_hops == self.ring.size  # its owner still has the payload
        payload = () if home else self.payload
        following = tuple(x.new_empty(self.n_rows, *x.shape[1:]) for x in payload)
        carry = self.carry.new_empty(self.n_rows, *self.carry.shape[1:])
        ahead, behind = self.ring.peer(self.way), self.ring.peer(-self.way)
        moves = [(dist.isend, x, ahead) for x in (*payload, self.carry)]
        moves += [(dist.irecv, x, behind) for x in (*following, carry)]
        # Both ends know how many rows a part has, so empty parts are not sent. The tag is for two
        # processes, which are each other's neighbours on both sides.
        operations = [
            dist.P2POp(move, x, peer, tag=self.way + 1) for move, x, peer in moves if x.numel()
        ]
        self.arriving = dist.batch_isend_irecv(operations) if operations else []
        self.incoming = (following, carry)

    def arrive(self) -> None:
        """Wait until the part has been received; before the first departure, do nothing."""
        for work in self.arriving:
            work.wait()
        if self.incoming is not None:
            self.payload, self.carry = self.incoming
        self.arriving, self.incoming = [], None


def _share(n: int, place: int, n_parts: int) -> slice:
    """Return the rows of part `place` of n rows that are divided into `n_parts` parts."""
    return slice(n * place // n_parts, n * (place + 1) // n_parts)
