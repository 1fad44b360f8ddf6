"""The competitors of every view, met block by block: no matrix of all views is held.

Forward, every view keeps a running log-sum-exp over its competitors. Backward, the
cosines are computed again: per view only the log-sum-exp was kept. What a row needs
of the columns is all that ever travels between devices, forward (vectors and ids) and
backward (these, log-sum-exp and slope), and a device gives the whole gradient of its
own rows: the cosines are symmetric, so it can do the columns' share as well.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

State = TypeVar("State")

LOWEST = -2.0
"""Below every cosine, and finite: a view that met no competitor makes no NaN."""


class Views(NamedTuple):
    """Views of length one in k blocks of b; padding has pair -1 and never counts.

    Attributes:
        vectors: their embeddings.
        owners: the ids that decide who competes.
        pairs: equal for the two views of one row.
    """

    vectors: Float[Array, "*k b d"]
    owners: Int[Array, "*k b"]
    pairs: Int[Array, "*k b"]


class Rivals(NamedTuple):
    """What views know of the competitors that they met so far.

    Attributes:
        best: the largest cosine, LOWEST where there was no competitor.
        mass: sum of exp((cosine - best) / temperature).
        total: sum of cosines.
        count: how many.
    """

    best: Float[Array, "*k b"]
    mass: Float[Array, "*k b"]
    total: Float[Array, "*k b"]
    count: Float[Array, "*k b"]


class Plan(NamedTuple):
    """How the competitors are met: constants of the compiled program.

    Attributes:
        temperature: of the loss.
        within: competitors are the other pairs of the same owner, not other owners.
        form: a row of VISITS.
        axes: mesh axes that the views are sharded over; () on one device.
    """

    temperature: float
    within: bool
    form: str
    axes: tuple[str, ...]


def block_up(views: Views, block: int) -> Views:
    """Cuts m views into blocks of at most `block`, as even as they can be."""
    m = views.pairs.size
    count = max(1, -(-m // block))
    size = -(-m // count)

    def cut(leaf, filling):
        ends = [(0, count * size - m)] + [(0, 0)] * (leaf.ndim - 1)
        padded = jnp.pad(leaf, ends, constant_values=filling)
        return padded.reshape(count, size, *leaf.shape[1:])

    return Views(cut(views.vectors, 0), cut(views.owners, 0), cut(views.pairs, -1))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def meet_rivals(views: Views, plan: Plan) -> tuple[Float[Array, "k b"], Rivals]:
    """Every view's log-sum-exp of (cosine / temperature) over its competitors.

    -inf for a view without any. Call it inside `shard_map` where plan.axes are not
    empty; the competitors are then looked for on all devices.

    Returns:
        The log-sum-exp, and the sums it was made of, through which no gradient goes.
    """
    return _forward(views, plan)[0]


def _forward(views: Views, plan: Plan):
    step = partial(_meet_block, plan=plan)
    rivals = VISITS[plan.form](step, _start(views, plan), views, views, plan.axes)
    logsumexp = rivals.best / plan.temperature + jnp.log(rivals.mass)
    return (logsumexp, rivals), (views, logsumexp)


def _backward(plan: Plan, kept, slopes):
    views, logsumexp = kept
    # Nobody competes with a view of -inf: 0 is as good there, and makes no NaN.
    finite = jnp.where(jnp.isfinite(logsumexp), logsumexp, 0)
    side = (views, finite, slopes[0] / plan.temperature)
    start = jnp.zeros(views.vectors.shape, views.vectors.dtype)
    start = _vary(start, plan.axes)
    step = partial(_pull_block, plan=plan)
    pulled = VISITS[plan.form](step, start, side, side, plan.axes)
    return (Views(pulled, None, None),)  # type: ignore[arg-type]


meet_rivals.defvjp(_forward, _backward)


def _start(views: Views, plan: Plan) -> Rivals:
    """What views know before they met anybody."""
    shape, dtype = views.pairs.shape, views.vectors.dtype
    nothing = jnp.zeros(shape, dtype)
    start = Rivals(jnp.full(shape, LOWEST, dtype), nothing, nothing, nothing)
    return _vary(start, plan.axes)


def _compare(rows: Views, columns: Views, plan: Plan) -> Float[Array, "b c"]:
    """Cosines of competitors; -inf where a row and a column do not compete."""
    # A bfloat16 product would be off by several per cent at temperature 0.01.
    cosines = _product(rows.vectors, columns.vectors.T)
    same = rows.owners[:, None] == columns.owners
    competing = same & (rows.pairs[:, None] != columns.pairs) if plan.within else ~same
    competing &= (rows.pairs >= 0)[:, None] & (columns.pairs >= 0)
    return jnp.where(competing, cosines, -jnp.inf)


def _product(left, right):
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)


def _meet_block(met: Rivals, rows: Views, columns: Views, *, plan: Plan) -> Rivals:
    """Adds the competitors among the columns of one block to what its rows know."""
    cosines = _compare(rows, columns, plan)
    competing = cosines > -jnp.inf
    best = jnp.maximum(met.best, cosines.max(axis=1))
    old = jnp.exp((met.best - best) / plan.temperature)
    new = jnp.exp((cosines - best[:, None]) / plan.temperature)
    return Rivals(
        best=best,
        mass=met.mass * old + new.sum(axis=1),
        total=met.total + jnp.where(competing, cosines, 0).sum(axis=1),
        count=met.count + competing.sum(axis=1, dtype=best.dtype),
    )


def _pull_block(pulled, rows, columns, *, plan: Plan) -> Float[Array, "b d"]:
    """Adds what the columns of one block pull their competitors' vectors by.

    A row and a column each hold: views, log-sum-exp, slope of the log-sum-exp.
    """
    (views, own, slope), (others, theirs, their_slope) = rows, columns
    logits = _compare(views, others, plan) / plan.temperature
    share = slope[:, None] * jnp.exp(logits - own[:, None])
    share += their_slope * jnp.exp(logits - theirs)
    return pulled + _product(share, others.vectors)


def _sweep(step: Callable, start: State, rows, columns, axes=()) -> State:
    """Lets every block of rows meet every block of columns, in turn."""

    def meet_all(block):
        state, row = block
        return lax.scan(lambda s, c: (step(s, row, c), None), state, columns)[0]

    return lax.map(meet_all, (start, rows))


def _gather(step: Callable, start: State, rows, columns, axes) -> State:
    """Meets the columns of all devices, gathered first."""
    gathered = jax.tree.map(lambda x: lax.all_gather(x, axes, tiled=True), columns)
    return _sweep(step, start, rows, gathered)


def _ring(step: Callable, start: State, rows, columns, axes) -> State:
    """Meets the columns of one device after the other, passed on around a ring."""
    devices = lax.axis_size(axes)
    onward = [(k, (k + 1) % devices) for k in range(devices)]

    def turn(carry, _):
        state, here = carry
        # Sent before they are used: the wire works while the blocks are met.
        arriving = jax.tree.map(lambda x: lax.ppermute(x, axes, onward), here)
        return (_sweep(step, state, rows, here), arriving), None

    (state, last), _ = lax.scan(turn, (start, columns), length=devices - 1)
    return _sweep(step, state, rows, last)


VISITS = {"blocks": _sweep, "gather": _gather, "ring": _ring}
"""How the rows of a device meet all columns; `_sweep` has them all at home."""


def _vary(tree: State, axes: tuple[str, ...]) -> State:
    """Marks constants as different on every device, as what they will hold is."""
    if not axes:
        return tree
    return jax.tree.map(lambda leaf: lax.pcast(leaf, axes, to="varying"), tree)
