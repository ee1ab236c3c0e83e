"""Networks, defenses and attacks of the user's own: by hand, and as records."""

import tomllib
from dataclasses import replace
from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import probes
import pytest
from flax import nnx
from jax.tree_util import Partial

from ghostjax import base, config, own, registry, toy
from ghostjax.attacks.inverse import standardise
from ghostjax.attacks.records import Direct, Inverse, Rmle, Shadow
from ghostjax.base import Attack, Context, Defense, Inversion, Knowledge, encode
from ghostjax.defenses import plain
from ghostjax.defenses.records import Arden, Ghost, Hide, Noise
from ghostjax.fields import content_hash, traced_half
from ghostjax.models import chain
from ghostjax.models.layers import Conv, Dense, Relu
from ghostjax.stego.records import Lsb
from ghostjax.training.fit import drive

SHAPE, CLASSES = (10, 10, 1), 4
NETWORK = (("conv1", Conv(4, 3)), ("ReLU1", Relu()), ("fc1", Dense(CLASSES)))
LAYERS = probes.at("ReLU1", NETWORK, SHAPE)
VARIABLES = toy.task(base.Cut(NETWORK, (), SHAPE)).edge_variables
CONV, DENSE = VARIABLES["conv1"]["params"], VARIABLES["fc1"]["params"]["dense"]
IMAGES = np.random.default_rng(1).random((3, *SHAPE), np.float32)


def same(apply):
    """Training mode of a cloud that has no other."""
    return lambda variables, x, key: (apply(variables, x), variables)


def linen():
    """NETWORK's halves as Flax Linen has them."""

    class Cloud(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(CLASSES)(x.reshape(len(x), -1))

    edge = nn.Sequential([nn.Conv(4, (3, 3), padding="VALID"), nn.relu])
    cloud = Cloud()
    return (
        own.Half(edge.apply, {"params": {"layers_0": dict(CONV)}}),
        own.Half(cloud.apply, {"params": {"Dense_0": dict(DENSE)}}, same(cloud.apply)),
    )


def nnx_():
    """As NNX has them, split into a graph and a state."""
    rngs = nnx.Rngs(0)
    conv = nnx.Conv(1, 4, (3, 3), padding="VALID", rngs=rngs)
    dense = nnx.Linear(8 * 8 * 4, CLASSES, rngs=rngs)
    for layer, values in ((conv, CONV), (dense, DENSE)):
        layer.kernel[...], layer.bias[...] = values["kernel"], values["bias"]
    (conv_graph, edge), (dense_graph, cloud) = nnx.split(conv), nnx.split(dense)

    def answer(state, x):
        return nnx.merge(dense_graph, state)(x.reshape(len(x), -1))

    return (
        own.Half(lambda s, x: nnx.relu(nnx.merge(conv_graph, s)(x)), edge),
        own.Half(answer, cloud, same(answer)),
    )


def functions():
    """As functions of tuples."""

    def send(variables, x):
        bias, kernel = variables
        layout = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=layout
        )
        return jax.nn.relu(y + bias.reshape(1, 1, 1, -1))

    def answer(variables, x):
        bias, kernel = variables
        return x.reshape(len(x), -1) @ kernel + bias.reshape(1, -1)

    edge, cloud = ((values["bias"], values["kernel"]) for values in (CONV, DENSE))
    return own.Half(send, edge), own.Half(answer, cloud, same(answer))


KINDS = {"linen": cache(linen), "nnx": cache(nnx_), "functions": cache(functions)}
each_kind = pytest.mark.parametrize("kind", KINDS)


def opaque(kind):
    """(cut, edge variables, cloud variables)."""
    edge, cloud = KINDS[kind]()
    return own.cut(edge, cloud, image_shape=SHAPE), edge.variables, cloud.variables


def halves():
    """(cut, edge variables, cloud variables) of ghostjax's own layers."""
    return LAYERS, *(chain.select(half, VARIABLES) for half in LAYERS[:2])


def task(kind=None):
    """(cut, a defense's task) of NETWORK, of ghostjax's own layers or of a kind."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (40, *SHAPE), np.uint8)
    whole = probes.task(LAYERS, VARIABLES, images, np.arange(40) % CLASSES, (1, 3))
    if kind is None:
        return LAYERS, whole
    cut, edge, cloud = opaque(kind)
    return cut, whole._replace(edge_variables=edge, cloud_variables=cloud)


@cache
def features():
    """Of IMAGES."""
    sent = jax.jit(partial(chain.apply, LAYERS.edge))
    return sent(chain.select(LAYERS.edge, VARIABLES), IMAGES)


def inverted(cut, variables, record):
    """(images, trace) of an attack on the features of IMAGES."""
    attack = registry.build(record, cut, Context())
    seen = attack.invert(variables, jax.random.key(0), features(), traced_half(record))
    return np.asarray(seen.images), np.asarray(seen.trace)


NEWTON = Rmle(steps=3, start="grey", unfold=False)
ADAM = replace(NEWTON, solver="gd", tolerance=0.0)


@pytest.fixture(scope="module")
def reference():
    """(images, trace) of gradient descent through ghostjax's own layers."""
    _, edge, _ = halves()
    return inverted(LAYERS, edge, ADAM)


@each_kind
def test_gradient_descent_sees_through_it_what_it_sees_through_layers(kind, reference):
    cut, edge, _ = opaque(kind)
    images, trace = inverted(cut, edge, ADAM)
    np.testing.assert_allclose(images, reference[0], atol=1e-3)
    np.testing.assert_allclose(trace, reference[1], rtol=1e-3)


@each_kind
def test_gauss_newton_descends_faster_from_the_same_objective(kind, reference):
    cut, edge, _ = opaque(kind)
    _, trace = inverted(cut, edge, NEWTON)
    np.testing.assert_allclose(trace[:, 0], reference[1][:, 0], rtol=1e-4)
    assert (trace[:, -1] < reference[1][:, -1] / 2).all()


def test_lbfgs_takes_an_edge_of_ones_own():
    """Traced, since compiling its line search takes ten seconds; see the next."""
    cut, edge, _ = opaque("nnx")
    record = replace(NEWTON, solver="lbfgs")
    invert = registry.build(record, cut, Context()).invert
    arguments = edge, jax.random.key(0), features(), traced_half(record)
    assert jax.eval_shape(invert, *arguments).images.shape == IMAGES.shape


@pytest.mark.science
@each_kind
def test_lbfgs_descends_through_an_edge_of_ones_own(kind):
    cut, edge, _ = opaque(kind)
    _, trace = inverted(cut, edge, replace(NEWTON, solver="lbfgs", steps=5))
    assert (trace[:, -1] < trace[:, 0] / 2).all()


def test_an_edge_without_a_cloud_is_enough_for_attacks_on_it():
    edge, _ = KINDS["linen"]()
    cut = own.cut(edge, image_shape=SHAPE)
    images, _ = inverted(cut, edge.variables, NEWTON)
    assert images.shape == IMAGES.shape
    with pytest.raises(ValueError, match="no number of classes: give own.cut"):
        registry.build(Direct(), cut, Context(public_count=40))
    known = own.cut(edge, image_shape=SHAPE, classes=CLASSES)
    assert known.classes == CLASSES
    assert registry.build(Direct(), known, Context(public_count=40)).probe
    noisy = registry.build(Noise(cut="edge"), known, Context())
    with pytest.raises(ValueError, match="no cloud, which defending"):
        noisy.answer({"cloud": ()}, jnp.zeros((1, *cut.feature_shape)))
    with pytest.raises(ValueError, match="no cloud, which defending"):
        registry.build(Ghost(), known, Context(stego=base.Stego("", *[None] * 3)))


def knowledge(cut, edge, cloud):
    """Of an attacker that has the cloud, may query the edge, and has images."""
    return Knowledge(
        cloud_variables=cloud,
        query=Partial(plain.Send(cut.edge), {"edge": edge}),
        public_images=jnp.asarray(task()[1].images),
        public_labels=jnp.arange(40) % CLASSES,
    )


def first_training(record, cut, edge, cloud):
    """What an attack trains first, against NETWORK."""
    attack = registry.build(record, cut, Context(public_count=40))
    known = base.limit(knowledge(cut, edge, cloud), attack.needs)
    return next(attack.fit(jax.random.key(0), traced_half(record), known))


def test_a_decoder_learns_from_what_ghostjaxs_layers_would_send():
    training = first_training(Inverse(batch_size=20), *opaque("nnx"))
    draw, arguments = jax.jit(training.draw), (training.shared, training.own)
    inputs, images = draw(training.key, 0, *arguments)
    cut, edge, _ = halves()
    wanted = standardise(training.own.scales, chain.apply(cut.edge, edge, images))
    np.testing.assert_allclose(inputs, wanted, atol=1e-3 * np.abs(wanted).max())


def test_a_shadow_is_to_please_the_cloud_as_it_would_ghostjaxs_layers():
    cut, edge, cloud = halves()
    linear = cut._replace(edge=cut.edge[:1])  # a shadow ends in ReLU where this does
    losses, record = [], Shadow(batch_size=20)
    for network in ((linear, edge, cloud), opaque("nnx")):
        training = first_training(record, *network)
        loss = jax.jit(training.loss, static_argnums=4)
        batch = IMAGES, jnp.arange(3)
        state = training.params, training.model_state
        value, _ = loss(*state, training.key, batch, None, training.shared)
        losses.append(float(value))
    assert training.part == "shadow" and losses[0] == pytest.approx(losses[1], 1e-4)
    with pytest.raises(ValueError, match="its layers are not known; give 'other'"):
        registry.build(replace(record, architecture="same"), network[0], Context())


GHOST = Ghost(steps=2, batch_size=8, public_batch_size=8, cut="edge")


def ghost(kind):
    """GHOST's loss with LSB in NETWORK, and its gradient's length."""
    cut, of_defense = task(kind)
    stego = registry.build(Lsb(), SHAPE, Context())
    learned, _ = drive(stego.fit(jax.random.key(0), traced_half(Lsb()), None))
    defense = registry.build(GHOST, cut, Context(stego=stego, train_count=40))
    of_defense = of_defense._replace(stego=learned)
    hyper = traced_half(GHOST)
    training = next(defense.fit(jax.random.key(2), hyper, of_defense))

    @jax.jit
    def graded(params):
        batch = training.draw(training.key, 0, training.shared, training.own)
        arguments = training.model_state, training.key, batch, hyper, training.shared
        return training.loss(params, *arguments)[0]

    value, gradient = jax.value_and_grad(graded)(training.params)
    return float(value), float(optax.tree.norm(gradient))


@pytest.fixture(scope="module")
def ghostly():
    """The same with ghostjax's own layers."""
    return ghost(None)


@each_kind
def test_ghost_retrains_a_cloud_of_ones_own_as_ghostjaxs_layers(kind, ghostly):
    np.testing.assert_allclose(ghost(kind), ghostly, rtol=1e-4)


@each_kind
def test_noise_defends_a_network_of_ones_own_as_ghostjaxs_layers(kind):
    sent = []
    for cut, of_defense in (task(), task(kind)):
        defense = registry.build(Noise(cut="edge"), cut, Context())
        hyper = traced_half(Noise())
        params, _ = drive(defense.fit(jax.random.key(0), hyper, of_defense))
        features = encode(defense, params, jax.random.key(3), IMAGES, IMAGES)
        sent.append((features, defense.answer(params, features)))
    for one, other in zip(*sent, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_cloud_that_cannot_be_trained_is_refused_where_it_would_be():
    edge, cloud = KINDS["linen"]()
    frozen = own.cut(edge, cloud._replace(train=None), image_shape=SHAPE)
    context = Context(stego=registry.build(Lsb(), SHAPE, Context()))
    for record in (Ghost(), Arden()):
        with pytest.raises(ValueError, match="no training mode: give own.Half"):
            registry.build(record, frozen, context)
    for record in (Hide(), Noise(), Ghost(covert_filters=2)):
        assert registry.build(record, frozen, context)


def test_halves_that_do_not_fit_are_refused():
    edge, cloud = KINDS["linen"]()
    with pytest.raises(ValueError, match="cannot be called with these variables"):
        own.cut(edge, cloud, image_shape=(12, 12, 1))
    with pytest.raises(ValueError, match=r"gives \(4,\) .* logits \(7,\) are wanted"):
        own.cut(edge, cloud, image_shape=SHAPE, classes=7)
    with pytest.raises(ValueError, match=r"gives \(8, 8, 4\) for an image: logits"):
        own.cut(edge, own.Half(lambda v, x: x, ()), image_shape=SHAPE)
    rows = own.Half(lambda v, x: edge.apply(v, x).mean(1), edge.variables)
    with pytest.raises(ValueError, match="neither a map .* nor .values.: reshape"):
        registry.build(Inverse(), own.cut(rows, image_shape=SHAPE), Context())


def nothing(cut, record, context):
    """The plain network, under another name."""
    return Defense("nothing", plain.keep, plain.Send(cut.edge), plain.Answer(cut.cloud))


def grey(cut, record, context):
    """An attack that answers with grey."""

    def fit(key, hyper, knowledge):
        yield from ()
        return ()

    def invert(params, key, features, hyper):
        return Inversion(jnp.full((len(features), *cut.image_shape), 0.5))

    return Attack("grey", record.needs, fit, invert)


def build(record, **context):
    return registry.build(record, LAYERS, Context(**context))


def test_a_member_of_ones_own_is_built_by_its_factory():
    record = own.defense("nothing", nothing, version="built")
    assert record == own.defense("nothing", nothing, version="built")
    assert build(record).name == "nothing"
    assert build(replace(record, cut="conv1")).name == "nothing"
    attack = own.attack("grey", grey, needs=("query",))
    assert build(attack).needs == ("query",)
    denoiser = own.denoiser("grey", grey, needs=("query",))
    assert build(denoiser, inner=build(attack)).name == "grey"
    stego = own.stego("wrong", lambda shape, record, context: None)
    with pytest.raises(ValueError, match="of stego 'wrong' gives a NoneType: a base.S"):
        build(stego)


def test_a_result_depends_on_name_version_and_variables():
    variables = {"levels": np.arange(3, dtype=np.float32)}
    records = [
        own.defense("nothing", nothing),
        own.defense("nothing", nothing, version="2"),
        own.defense("nothing", nothing, variables=variables),
        own.defense("nothing", nothing, variables={"levels": np.arange(4.0)}),
        own.defense("nothing_else", nothing),
        own.defense("nothing", nothing, version="3", traits=("sends_plain",)),
    ]
    assert len({content_hash(record) for record in records}) == len(records)
    again = own.defense("nothing", nothing, variables=jax.device_put(variables))
    assert again == records[2]


def rounded(step):
    """A factory around a value, as a notebook's cell makes it anew."""

    def factory(cut, record, context):
        return nothing(cut, record, context)._replace(draws=step)

    return factory


def test_another_function_under_a_name_and_version_is_refused():
    own.defense("rounded", rounded(np.arange(2)))
    own.defense("rounded", rounded(np.arange(2)))  # made anew, and the same
    with pytest.raises(ValueError, match="'rounded' version '1' is something else"):
        own.defense("rounded", rounded(np.arange(3)))
    with pytest.raises(ValueError, match="raise the version"):
        own.defense("rounded", lambda cut, record, context: None)
    with pytest.raises(ValueError, match="raise the version"):
        own.defense("rounded", rounded(np.arange(2)), traits=("hides",))
    own.defense("rounded", rounded(np.arange(3)), version="2")
    edge, cloud = KINDS["functions"]()
    named = partial(own.network, "net", image_shape=SHAPE)
    assert named(edge, cloud) == named(*functions())
    with pytest.raises(ValueError, match="network 'net' version '1' is something"):
        named(edge, cloud._replace(train=None))


def test_names_that_others_have_and_names_that_are_none_are_refused():
    with pytest.raises(ValueError, match="there is a defense 'noise' already"):
        own.defense("noise", nothing)
    with pytest.raises(ValueError, match="there is a network 'lenet5' already"):
        own.network("lenet5", *KINDS["linen"](), image_shape=SHAPE)
    with pytest.raises(ValueError, match="letters, digits"):
        own.attack("my attack", grey, needs=("query",))
    with pytest.raises(ValueError, match="unknown trait 'hide': did you mean 'hides'"):
        own.defense("nothing", nothing, traits=("hide",))
    with pytest.raises(ValueError, match="unknown knowledge 'queries'"):
        own.attack("grey", grey, needs=("queries",))
    with pytest.raises(ValueError, match="'grey' needs nothing: name what it knows"):
        own.attack("grey", grey, needs=())


def test_a_config_of_ones_own_is_read_where_it_is_registered():
    network = own.network("read", *KINDS["linen"](), image_shape=SHAPE)
    record = own.defense("read", nothing, cut="edge", traits=("sends_plain",))
    attack = own.attack("read", grey, needs=("query", "public_images"))
    whole = replace(config.Config(), target=network, defense=record, attack=attack)
    tree = tomllib.loads(config.to_toml(whole))
    assert config.build(tree) == whole
    tree["attack"]["name"] = "unread"
    with pytest.raises(ValueError, match="'unread' is somebody's own and not regist"):
        config.build(tree)
    with pytest.raises(ValueError, match="version '7' is somebody's own and not reg"):
        build(replace(record, version="7"))
    with pytest.raises(ValueError, match="network 'read' version '7' with variables"):
        own.network_of(replace(network, version="7"))
    with pytest.raises(ValueError, match="answers 4 classes and the data set has 10"):
        own.network_of(network).build(10)
