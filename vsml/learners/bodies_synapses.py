"""Bodies and synapses: neurons and connections with vector states, each kind updated by one learned local rule.

Bodies b_j (a vector per neuron) and synapses s_ij (a vector per connection) are the state of a lifetime. One
meta-network serves all bodies, one all synapses; what type a neuron has (input, hidden, output) they read from a
learned embedding t.

    m_ij = s_ij[:M] * (U [b_i, t_i])                          a message has M channels, the first M entries weigh them
    u_j  = [R_i m_ij, x_j, b_j, t_j]                          R: mean, sum or sum / sqrt(n) over all synapses of j
    b_j <- (1 - z) b_j + z tanh(C u_j + c)                    z = sig(Z u_j + z0)           `ticks` times an example
    h    = tanh(A s_ij + P [b_i, t_i] + Q [b_j, t_j] + (V [b_i, t_i]) * (W [b_j, t_j]) + a)
    s_ij <- s_ij + sig(G h + g0) * tanh(D h + d)              once an example, after the prediction
    y^_j = r [b_j, 1] of output bodies

x_j is what enters a body from outside, in four channels: the input at input bodies; at output bodies the error, the
target and the reward, as far as the task answers, in one more update of all bodies before the synapses change. A task
that answers nothing leaves only what is seen to learn from. V_M has the same shape for all tasks.

Source: Gregor 2020, "Finding online neural update rules by learning to remember", arXiv 2003.03124, for bodies and
synapses as vectors, one function for each, types as embeddings. The paper gives no equations for the functions: the
gated updates, the messages as products with entries of the synapse, and their sizes are our reading. So are products
of the two bodies in the rule of synapses, without which Hebb's rule is far to find.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vsml.errors import UserError
from vsml.hardware import Cut, in_blocks, opened, product, product_of_few, tanh
from vsml.learners.base import Learner
from vsml.learners.layers import bounded, check_bound
from vsml.sparsity.base import Reduction, Sparsity, Wiring
from vsml.sparsity.dense import Dense
from vsml.tasks.base import Feedback, TaskSpec
from vsml.types import Array, Key, Params, State

Network = Literal["layered", "two_way", "recurrent"]

_CHANNELS = 4
"""What enters a body: input, error, target, reward."""

AT_ONCE = 2048
"""Synapses up to which a projection is updated at once, those of all examples together; more go source by source."""

EXAMPLES_AT_ONCE = 128
"""Synapses of a source up to which those of all examples are updated at once; more go example by example, too."""


class Living(NamedTuple):
    """What bodies and synapses carry through a lifetime, for B parallel examples.

    Numbers of a body or a synapse come first, so that a product with all of them is one, whatever B.
    """

    bodies: Array  # [body_size, B, neurons]
    synapses: tuple[Array, ...]  # of each projection, [synapse_size, B, its synapses]


class Projection(NamedTuple):
    """Synapses from one group of neurons to another."""

    source: slice
    target: slice
    wiring: Wiring


@dataclass(frozen=True)
class BodiesSynapses(Learner):
    """A network of neurons and connections with vector states and learned local update rules.

    Attributes:
      network: which neurons connect to which. `layered`: each layer to the next. `two_way`: also each layer to the one
        before. `recurrent`: every neuron to every neuron.
      hidden: neurons of each hidden layer; in a recurrent network, those of the only group, its sum.
      visible: whether the neurons that see an input number are those that give it back, instead of output neurons of
        their own. It needs tasks of as many outputs as inputs; None: where tasks have as many, and elsewhere not, as a
        mixture of remembering and classification wants it.
      sparsity: the wiring between two groups of neurons.
      body_size: numbers of a body.
      synapse_size: numbers of a synapse.
      message_size: M, channels of a message, `synapse_size` at most.
      type_size: numbers of the embedding of a type.
      width: hidden units of the rule of synapses.
      ticks: updates of the bodies before a prediction.
      reduction: how a body combines its messages.
      plastic: whether synapses change. Frozen ones are the control: all that a network can keep is then in its bodies.
      synapse_std: deviation of the entries of synapses at the start of a lifetime.
      gate: start of the gates of both rules, before the sigmoid: low is slow.
      output_bound: as in `learners.VSML`.
    """

    network: Network = "recurrent"
    hidden: tuple[int, ...] = (16,)
    visible: bool | None = False
    sparsity: Sparsity = Dense()
    body_size: int = 4
    synapse_size: int = 2
    message_size: int = 2
    type_size: int = 2
    width: int = 16
    ticks: int = 2
    reduction: Reduction = "sqrt"
    plastic: bool = True
    synapse_std: float = 0.1
    gate: float = -1.0
    output_bound: float | None = None

    def __post_init__(self) -> None:
        for name in ("body_size", "synapse_size", "message_size", "type_size", "width", "ticks"):
            if getattr(self, name) < 1:
                raise UserError(f"learners.BodiesSynapses.{name} is {getattr(self, name)}: set it to 1 or more")
        if self.message_size > self.synapse_size:
            raise UserError(
                f"learners.BodiesSynapses.message_size is {self.message_size}, but each channel needs an entry of the "
                f"synapse, which has {self.synapse_size}: set synapse_size to {self.message_size} or more"
            )
        if any(size < 1 for size in self.hidden):
            raise UserError(
                f"learners.BodiesSynapses.hidden is {list(self.hidden)}: give every hidden layer 1 neuron or more"
            )
        if self.synapse_std < 0:
            raise UserError(f"learners.BodiesSynapses.synapse_std is {self.synapse_std}: set it to 0 or more")
        check_bound("BodiesSynapses", self.output_bound)

    def groups(self, spec: TaskSpec) -> list[int]:
        """Neurons of each group, in order: inputs, hidden layers, outputs unless the inputs are `visible`.

        Raises `UserError` where the tasks do not fit.
        """
        hidden = self._hidden()
        is_square = spec.num_inputs == spec.num_outputs
        if not (is_square if self.visible is None else self.visible):
            return [spec.num_inputs, *hidden, spec.num_outputs]
        if self.network == "layered" or (self.network == "two_way" and not hidden):
            lack = "a layered network leads nowhere back to them" if hidden else "they have no hidden neurons to hear"
            raise UserError(
                f"learners.BodiesSynapses.visible is {self.visible}, so that neurons give back what they see, but "
                f"{lack}: set network to 'recurrent', or to 'two_way' with hidden layers"
            )
        if not is_square:
            raise UserError(
                "learners.BodiesSynapses.visible is True, so that neurons give back what they see, but these tasks "
                f"have {spec.num_inputs} inputs and {spec.num_outputs} outputs: set it to False"
            )
        return [spec.num_inputs, *hidden]

    def _hidden(self) -> list[int]:
        """Neurons of each group between inputs and outputs."""
        return [sum(self.hidden)] if self.network == "recurrent" and self.hidden else list(self.hidden)

    def projections(self, spec: TaskSpec) -> list[Projection]:
        """All synapses: of a recurrent network one projection of all neurons to all."""
        sizes = self.groups(spec)
        if self.network == "recurrent":
            everyone = slice(0, sum(sizes))
            return [self._projection(everyone, everyone)]
        starts = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
        layers = [slice(start, end) for start, end in pairwise(starts)]
        pairs = list(pairwise(layers))
        if self.network == "two_way":
            pairs += [(target, source) for source, target in reversed(pairs)]
        return [self._projection(source, target) for source, target in pairs]

    def _projection(self, source: slice, target: slice) -> Projection:
        inputs, outputs = ((group.stop - group.start,) for group in (source, target))
        return Projection(source, target, self.sparsity.wire(inputs, outputs, self.reduction))

    def init(self, key: Key, spec: TaskSpec) -> Params:
        """Both meta-networks, the embedding of every group of neurons, and what synapses start from.

        Weights are truncated normal with std 1 / sqrt(fan_in), offsets 0 but for the gates.
        """
        seen = self.body_size + self.type_size
        read = self.message_size + _CHANNELS + seen
        keys = iter(jax.random.split(key, 12))
        # Of a mixture, networks without output neurons know the type of these too.
        num_types = len(self.groups(spec)) if self.visible is not None else len(self._hidden()) + 2

        def weights(num_inputs: int, num_outputs: int) -> Array:
            return jax.nn.initializers.lecun_normal()(next(keys), (num_inputs, num_outputs), jnp.float32)

        def offsets(num_outputs: int, value: float = 0.0) -> Array:
            return jnp.full((num_outputs, 1), value, jnp.float32)

        return {
            "types": jax.random.normal(next(keys), (self.type_size, num_types)),
            "message": weights(seen, self.message_size),
            "body": {
                "change": weights(read, self.body_size),
                "change_b": offsets(self.body_size),
                "gate": weights(read, self.body_size),
                "gate_b": offsets(self.body_size, self.gate),
            },
            "synapse": {
                "start": offsets(self.synapse_size),
                "own": weights(self.synapse_size, self.width),
                "source": weights(seen, self.width),
                "target": weights(seen, self.width),
                "source_factor": weights(seen, self.width),
                "target_factor": weights(seen, self.width),
                "b": offsets(self.width),
                "change": weights(self.width, self.synapse_size),
                "change_b": offsets(self.synapse_size),
                "gate": weights(self.width, self.synapse_size),
                "gate_b": offsets(self.synapse_size, self.gate),
            },
            "output": weights(self.body_size, 1),
            "output_b": offsets(1),
        }

    def initial_state(self, params: Params, key: Key, spec: TaskSpec) -> Living:
        """Silent bodies, and synapses around their learned start; the same for all examples of a batch."""
        projections = self.projections(spec)
        start, keys = params["synapse"]["start"], jax.random.split(key, len(projections))
        synapses = tuple(
            start + self.synapse_std * jax.random.normal(k, (self.synapse_size, projection.wiring.units))
            for k, projection in zip(keys, projections, strict=True)
        )
        state = Living(jnp.zeros((self.body_size, sum(self.groups(spec)))), synapses)
        return jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], spec.batch, axis=1), state)

    def predict(self, params: Params, state: Living, x: Array) -> tuple[Living, Array]:
        spec = self._spec(state, x)
        projections, types = self.projections(spec), self._types(params, spec)
        bodies, entering = state.bodies, self._entering(spec, x, Feedback())
        for _ in range(self.ticks):
            bodies = _moved(params, projections, types, bodies, state.synapses, entering)
        output = product(params["output"], bodies[..., self._outputs(spec)]) + params["output_b"][..., None]
        return state._replace(bodies=bodies), bounded(output[0], self.output_bound)

    def learn(self, params: Params, state: Living, x: Array, feedback: Feedback) -> Living:
        """Bodies meet the feedback, if the task gives any, and synapses change."""
        spec = self._spec(state, x)
        projections, types = self.projections(spec), self._types(params, spec)
        bodies, synapses = state
        if any(kind is not None for kind in (feedback.error, feedback.target, feedback.reward)):
            bodies = _moved(params, projections, types, bodies, synapses, self._entering(spec, x, feedback))
        if self.plastic:
            synapses = _changed(params["synapse"], projections, types, bodies, synapses)
        return Living(bodies, synapses)

    def learned_variables(self, state: Living) -> State:
        """The synapses."""
        return state.synapses

    def describe(self, spec: TaskSpec) -> dict[str, int]:
        """Numbers of bodies and of synapses."""
        synapses = sum(projection.wiring.units for projection in self.projections(spec))
        return {"bodies": sum(self.groups(spec)), "synapses": synapses}

    def _spec(self, state: Living, x: Array) -> TaskSpec:
        """The shape of the tasks, as far as the network depends on it."""
        neurons = state.bodies.shape[-1]
        inputs = TaskSpec(x.shape[1:], 1, 1).num_inputs
        own = neurons - inputs - sum(self.hidden)
        return TaskSpec(x.shape[1:], own or inputs, 1)

    def _outputs(self, spec: TaskSpec) -> slice:
        groups = self.groups(spec)
        if len(groups) == len(self._hidden()) + 1:
            return slice(0, spec.num_inputs)
        return slice(sum(groups) - spec.num_outputs, sum(groups))

    def _types(self, params: Params, spec: TaskSpec) -> Array:
        """The embedding of every neuron, [type_size, 1, neurons]."""
        groups = self.groups(spec)
        return params["types"][:, None, np.repeat(np.arange(len(groups)), groups)]

    def _entering(self, spec: TaskSpec, x: Array, feedback: Feedback) -> Array:
        """What enters the bodies from outside, [channels, B, neurons]."""
        entering = jnp.zeros((_CHANNELS, x.shape[0], sum(self.groups(spec))))
        entering = entering.at[0, :, : spec.num_inputs].set(x.reshape(x.shape[0], -1))
        reward = None if feedback.reward is None else feedback.reward[:, None]
        for channel, kind in enumerate((feedback.error, feedback.target, reward), 1):
            if kind is not None:
                entering = entering.at[channel, :, self._outputs(spec)].set(kind)
        return entering


def _typed(bodies: Array, types: Array) -> Array:
    """Bodies and their types, [body_size + type_size, B, neurons]."""
    return jnp.concatenate([bodies, jnp.broadcast_to(types, (len(types), *bodies.shape[1:]))])


def _gated(rule: Params, read: Array) -> tuple[Array, Array]:
    """How far the gates of a rule are open for what it reads [n, B, units], and the change that it proposes."""
    weights = jnp.concatenate([0.5 * rule["gate"], rule["change"]], axis=1)
    offsets = jnp.concatenate([0.5 * rule["gate_b"], rule["change_b"]])
    both = tanh(product(weights, read) + offsets.reshape(-1, *(1,) * (read.ndim - 1)))
    half, change = jnp.split(both, 2)
    return opened(half), change


def _for_each_example(function: Callable[[Array], Array], values: Array) -> Array:
    """`function`, of arrays [n, units], of an array [n, B, units]."""
    found = function(values.reshape(-1, values.shape[-1]))
    return found.reshape(*values.shape[:2], -1)


def _moved(
    params: Params,
    projections: list[Projection],
    types: Array,
    bodies: Array,
    synapses: tuple[Array, ...],
    entering: Array,
) -> Array:
    """The bodies [body_size, B, neurons] after an update."""
    typed = _typed(bodies, types)
    sent = product(params["message"], typed)
    heard = jnp.zeros_like(sent)
    for (source, target, wiring), synapse in zip(projections, synapses, strict=True):
        if wiring.is_grid:
            weights = synapse[: len(sent)].reshape(*sent.shape[:2], wiring.inputs, wiring.outputs)
            scale = wiring.reduce_forward.total / wiring.inputs
            own = scale * jnp.einsum("mbij,mbi->mbj", weights, sent[..., source])
        else:
            messages = synapse[: len(sent)] * _for_each_example(wiring.spread_forward, sent[..., source])
            own = _for_each_example(wiring.reduce_forward, messages)
        heard = heard.at[..., target].add(own)
    gate, change = _gated(params["body"], jnp.concatenate([heard, entering, typed]))
    return bodies + gate * (change - bodies)


def _changed(
    rule: Params, projections: list[Projection], types: Array, bodies: Array, synapses: tuple[Array, ...]
) -> tuple[Array, ...]:
    """The synapses after an update."""
    typed = _typed(bodies, types)
    of_source = [product(rule[name], typed) for name in ("source", "source_factor")]
    of_target = [product(rule[name], typed) for name in ("target", "target_factor")]
    of_target[0] += rule["b"][..., None]
    own = {name: rule[name] for name in ("own", "change", "change_b", "gate", "gate_b")}
    changed: list[Array] = []
    for (source, target, wiring), synapse in zip(projections, synapses, strict=True):
        sent, heard = [each[..., source] for each in of_source], [each[..., target] for each in of_target]
        if wiring.is_grid and synapse[0].size > AT_ONCE:
            grid = synapse.reshape(*synapse.shape[:2], wiring.inputs, wiring.outputs)
            incoming = tuple(each[..., None] for each in sent), tuple(each[:, :, None] for each in heard)
            cut = Cut((-2,) if wiring.outputs <= EXAMPLES_AT_ONCE else (-3, -2), forward=1, backward=1)
            changed.append(in_blocks(_rule, own, grid, incoming, cut).reshape(synapse.shape))
        else:
            at_source = tuple(_for_each_example(wiring.spread_forward, each) for each in sent)
            at_target = tuple(_for_each_example(wiring.spread_backward, each) for each in heard)
            changed.append(_rule(own, synapse, (at_source, at_target)))
    return tuple(changed)


def _rule(rule: Params, synapse: Array, incoming: tuple[tuple[Array, ...], tuple[Array, ...]]) -> Array:
    """Synapses [n, B, ...] after an update: what their sources and their targets add, and the factors of a product."""
    (at_source, source_factor), (at_target, target_factor) = incoming
    known = product_of_few(rule["own"], synapse) + at_source + at_target + source_factor * target_factor
    gate, change = _gated(rule, tanh(known))
    return synapse + gate * change
