"""Explanations: that they say what the rule computes, and how they are written."""

import math
import re
import sys
import types

import numpy as np
import pytest
from matplotlib.mathtext import MathTextParser
from specs import SPECS, case_id

import arrayopt as optim
from arrayopt import backend
from arrayopt.applying import apply_rule
from arrayopt.backends import cuda_kernel
from arrayopt.backends.numba_kernel import kernel_source
from arrayopt.cli import main
from arrayopt.explaining import layout
from arrayopt.explaining.expressions import Asked, Branch, Line, Return, Symbol, evaluate, tidy
from arrayopt.explaining.reading import read_rule
from arrayopt.explaining.symbols import Notation
from arrayopt.explaining.watching import watching
from arrayopt.state import slots_for
from arrayopt.trace import trace

RULES = [spec for spec in SPECS if spec.kind != "closure"]
CASES = [(spec, options) for spec in RULES for options in spec.options]
STEPS = 12


def steps_of(cls, options, count):
    """The arguments of the rule in each step, and what it returns: (param, grad, state, group)."""
    opt = cls([np.zeros((1, 1))], **options)
    group, slots = opt._read(opt.param_groups[0], 0)
    rng = np.random.default_rng(0)
    param = rng.standard_normal((10, 5))
    state = {
        slot.name: start if slot.scalar else np.full(slot.shape_for(param.shape), float(start))
        for slot in slots_for(slots, param.shape)
        if (start := slot.start(group)) is not None
    }
    for _ in range(count):
        grad = rng.standard_normal((10, 5))
        state = state | ({"step": state["step"] + 1} if "step" in state else {})
        numbers = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
        arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
        found = apply_rule(opt._update, param, grad, arrays, numbers, group)
        yield param, grad, state, group, (found[0], {**found[1], **found[2]})
        param, state = found[0], {**state, **found[1], **found[2]}


def follow(block, names, env, state, form):
    """Evaluate a block as it is displayed: a name has the value that it was given last."""
    returned = {}

    def value(symbol):
        if symbol.kind == "shape":
            return env[names(Symbol("param"))].shape[symbol.index]
        if symbol.kind == "option":
            option = env["group"][symbol.name]
            return option if symbol.index is None else option[symbol.index]
        return env[names(symbol)]

    def holds(condition):
        if getattr(condition, "function", "") == "exists":
            return condition.arguments[0].name in state
        return evaluate(form(condition), value, np)

    def walk(items):
        for item in items:
            if isinstance(item, Line):
                env[names(item.target)] = evaluate(form(item.expression), value, np)
                if item.target.kind == "after":
                    returned[item.name] = env[names(item.target)]
            elif isinstance(item, Asked):
                assert holds(item.condition) == item.answer
            elif isinstance(item, Branch):
                walk(item.then if holds(item.condition) else item.otherwise)
            else:
                assert isinstance(item, Return)
                assert {*item.names, "param"} == {*returned}

    walk(block)
    return returned


def written(block, cls):
    """Names as LaTeX shows them, in a block."""
    return layout.Names(block, Notation(cls.notation), lambda name, count: name + "'" * count)


@pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
def test_the_equations_evaluate_to_what_the_rule_computes(spec, options) -> None:
    cls = spec.cls
    (section,) = optim.explain(cls, **options).sections
    names = written(section.block, cls)
    for param, grad, state, group, (new, entries) in steps_of(cls, options, STEPS):
        env = {"group": group, names(Symbol("param")): param, names(Symbol("grad")): grad}
        env |= {names(Symbol(name)): value for name, value in state.items()}
        with np.errstate(all="ignore"):
            found = follow(section.block, names, env, state, tidy)
        assert {*found} == {*entries, "param"}
        for name, value in (entries | {"param": new}).items():
            np.testing.assert_allclose(found[name], value, rtol=3e-14, atol=3e-15, err_msg=name)


@pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
def test_the_program_gives_the_bits_of_the_rule(spec, options) -> None:
    source = optim.explain(spec.cls, **options).python
    scope = {}
    exec(compile(source, "<explained>", "exec"), scope)
    program = scope[spec.name.lower()]
    for param, grad, state, group, (new, entries) in steps_of(spec.cls, options, STEPS):
        found, found_entries = program(np, param, grad, state, group)
        assert np.array_equal(found, new)
        assert {*found_entries} == {*entries}
        for name, value in entries.items():
            assert np.array_equal(found_entries[name], value), name


@pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
def test_latex_is_balanced_and_each_line_can_be_set(spec, options) -> None:
    latex = optim.explain(spec.cls, **options).latex
    plain = latex.replace(r"\{", "").replace(r"\}", "")
    depths = np.cumsum([(c == "{") - (c == "}") for c in plain])
    assert depths[-1] == 0
    assert (depths >= 0).all()
    assert latex.count(r"\left") - latex.count(r"\leftarrow") == latex.count(r"\right")
    body = latex.removeprefix("\\begin{aligned}\n").removesuffix("\n\\end{aligned}")
    parser = MathTextParser("path")
    for row in body.split(" \\\\\n"):
        assert row.count("&") - row.count(" & ") == 1  # one place to align at, cases apart
        row = re.sub(r"\\begin\{cases\}|\\end\{cases\}", " ", row).replace(r"\\", r"\quad")
        assert parser.parse(f"${row.replace('&', ' ').replace(chr(92) + 'colon', ':')}$")


def text_of(cls, **options):
    """The equations, without what stands below them."""
    return optim.explain(cls, **options).text.split("\n\n")[1]


def test_the_text_of_some() -> None:
    assert text_of(optim.SGD, momentum=0.9, maximize=True).splitlines() == [
        "gₜ ← −gₜ",
        "bₜ = μ·bₜ₋₁ + gₜ  if bₜ₋₁ exists,  otherwise gₜ",
        "θₜ = θₜ₋₁ − γ·bₜ",
    ]
    assert "θₜ₋₁ ← (1 − γ·λ)·θₜ₋₁" in text_of(optim.AdamW)
    assert "Δₜ = (√(uₜ₋₁ + ε) / dₜ)·gₜ" in text_of(optim.Adadelta)
    assert "    θₜ = θₜ₋₁ − γₜ·mₜ\nif ρₜ > 5:\n" in text_of(optim.RAdam)
    assert "∏ᵢ₌₁ᵗ μᵢ = (∏ᵢ₌₁ᵗ⁻¹ μᵢ)·μₜ" in text_of(optim.NAdam)
    assert "λ = weight_decay = 0.1" in optim.explain(optim.Adam, weight_decay=0.1).text


@pytest.mark.parametrize("spec", RULES, ids=case_id)
def test_letters_are_those_of_the_docstring(spec) -> None:
    """Each option and entry of the state is written as a letter that the docstring has."""
    doc = re.sub(r"[{} ]", "", spec.cls.__doc__ + optim.Adam.__doc__)
    options = spec.options[-1] if spec.name != "Adam" else {"weight_decay": 0.1}
    (section,) = optim.explain(spec.cls, **options).sections
    slots = {slot.name for slot in section.slots}
    for symbol in layout.used(section.block):
        known = symbol.kind == "option" or (symbol.name in slots and symbol.kind != "local")
        if known and symbol.name != "max_exp_avg_sq":
            letter = re.sub(r"[{} ]", "", section.notation(symbol))
            if letter.startswith(r"\beta_"):
                assert letter in doc
            else:
                assert letter.partition("_")[0] in doc, letter


def test_references_are_told() -> None:
    assert "rectified from ρₜ > 5 on, where the paper has 4" in " ".join(
        optim.explain(optim.RAdam).text.split()
    )
    for spec in SPECS:
        assert re.search(r"\((19|20)\d\d\)", optim.explain(spec.cls).references), spec.name


def test_lbfgs_shows_the_equations_of_its_docstring_and_says_so() -> None:
    explanation = optim.explain(optim.LBFGS)
    assert "dₖ = -Hₖ gₖ" in explanation.text
    assert "a step of its own" in explanation.text
    assert r"d_k &= -H_k g_k" in explanation.latex
    assert explanation.lines == ()
    for part in ("python", "numba", "cuda"):
        with pytest.raises(TypeError, match="LBFGS has a step of its own and no rule"):
            getattr(explanation, part)


def test_lbfgs_shows_the_equations_and_the_values_of_its_options() -> None:
    fixed = optim.explain(optim.LBFGS, max_iter=4)
    searching = optim.explain(optim.LBFGS, max_iter=4, line_search_fn="strong_wolfe")
    shared = "Hₖ₊₁ = (I - ρₖ sₖ yₖᵀ) Hₖ (I - ρₖ yₖ sₖᵀ) + ρₖ sₖ sₖᵀ\n"
    assert shared + "t₀ = γ min(1, 1 / ‖ g₀ ‖₁)\ntₖ = γ     (k > 0)\n\n" in fixed.text
    armijo = "f(xₖ + tₖ dₖ) ≤ f(xₖ) + 10⁻⁴ tₖ gₖᵀ dₖ\n"
    assert shared + armijo + "|g(xₖ + tₖ dₖ)ᵀ dₖ| ≤ 0.9 |gₖᵀ dₖ|\n\n" in searching.text
    assert "max_iter = 4, max_eval = 5, " in searching.text
    assert "line_search_fn = 'strong_wolfe'\n" in searching.text
    assert "`line_search_fn` = None\n" in fixed._repr_markdown_()
    for explanation in (fixed, searching):
        first, *rows, last = explanation.latex.splitlines()
        assert (first, last) == (r"\begin{aligned}", r"\end{aligned}")
        assert [row.endswith(r" \\") for row in rows] == [True] * 4 + [False]
        assert all(row.count("&") == 1 for row in rows)
    live = optim.LBFGS([np.ones(2)], max_iter=4, line_search_fn="strong_wolfe")
    assert optim.explain(live).text == searching.text


class Perceptron(optim.Optimizer):
    """Rosenblatt's, which moves by the sign of what it is told.

    .. math:: w_t = w_{t-1} + y x
    """

    def __init__(self, params, margin=0.5):
        super().__init__(params, {"margin": margin})

    def step(self, closure=None, *, grads=None):
        raise NotImplementedError


class Secret(Perceptron):
    """It tells nothing."""


def test_a_step_of_ones_own_is_quoted_if_it_tells_anything() -> None:
    assert optim.explain(Perceptron).text == (
        "Perceptron\n\nwₜ = wₜ₋₁ + y x\n\nmargin = 0.5\n\n(Perceptron has a step of its own, not a "
        "rule that is run on each array: these are the\nequations of its docstring.)\n"
    )
    secret = optim.explain(Secret, margin=0.25)
    assert "and no equations in\nits docstring.)\n" in secret.text
    assert "margin = 0.25" in secret.text
    assert "$$" not in secret._repr_markdown_()
    groups = [{"params": [np.ones(1)], "margin": margin} for margin in (0.5, 1.0, 0.5)]
    text = optim.explain(Perceptron(groups)).text
    assert text.index("Perceptron, groups 0, 2\n") < text.index("Perceptron, group 1\n")
    assert text.index("margin = 0.5") < text.index("margin = 1.0")


def test_a_notebook_shows_equations_and_what_their_symbols_are() -> None:
    explanation = optim.explain(optim.SGD, momentum=0.9)
    equations, symbols = explanation._repr_markdown_().split("\n\n")
    assert equations == f"$$\n{explanation.latex}\n$$"
    assert symbols == (
        r"$\mu$ = `momentum` = 0.9, $\gamma$ = `lr` = 0.001, $b_{t}$: `momentum_buffer`, "
        r"$\theta_{t}$: `param`"
    )
    assert r"$\beta_{2}$ = `betas[1]` = 0.999, " in optim.explain(optim.Adam)._repr_markdown_()
    assert "a step of its own" in optim.explain(optim.LBFGS)._repr_markdown_()


# Optimizers at work


def test_a_live_optimizer_takes_the_branch_of_its_next_step() -> None:
    opt = optim.RAdam([np.zeros(2)])
    assert "(since ρₜ ≤ 5)" in optim.explain(opt).text
    for _ in range(9):
        opt.step(grads=[np.ones(2)])
    text = optim.explain(opt).text
    assert text.startswith("RAdam, step 10\n")
    assert "(since ρₜ > 5)" in text
    assert "≤" not in text
    sgd = optim.SGD([np.zeros(2)], momentum=0.9)
    assert "bₜ = gₜ\n" in optim.explain(sgd).text
    sgd.step(grads=[np.ones(2)])
    assert "bₜ = μ·bₜ₋₁ + gₜ\n" in optim.explain(sgd).text


def test_groups_that_differ_have_an_explanation_each() -> None:
    groups = [{"params": [np.zeros(2)], "lr": lr} for lr in (0.1, 0.2, 0.1)]
    explanation = optim.explain(optim.SGD(groups, weight_decay=0.5))
    assert [section.heading for section in explanation.sections] == [", groups 0, 2", ", group 1"]
    assert "γ = lr = 0.2" in explanation.text
    assert explanation.python.count("def sgd") == 2
    shown = explanation._repr_markdown_()
    assert shown.count("aligned") == 4
    assert shown.startswith("**SGD**, groups 0, 2\n\n$$\n\\begin{aligned}\n")
    assert repr(explanation) == "<Explanation of SGD: 4 lines>"


def test_nothing_of_a_live_optimizer_changes() -> None:
    param = np.ones(3)
    opt = optim.Adam([param], lr=0.1)
    opt.step(grads=[np.ones(3)])
    before = repr(opt.state_dict())
    _ = optim.explain(opt).python, optim.explain(opt).numba
    assert repr(opt.state_dict()) == before
    assert "rule" not in vars(opt)


# Rules of one's own


class Own(optim.Optimizer):
    state_table = (optim.StateSlot("step", initial=0, scalar=True), optim.StateSlot("my_speed"))

    def __init__(self, params, lr=0.1, beta1=0.9, weights=(1.0, 2.0), rounds=2):
        defaults = {"lr": lr, "beta1": beta1, "weights": weights, "rounds": rounds}
        super().__init__(params, defaults)

    def rule(self, xp, param, grad, state, group):
        m_hat = grad / math.sqrt(1 - group["beta1"] ** state["step"])
        for _ in range(group["rounds"]):
            m_hat = m_hat * group["weights"][1]
        my_speed = xp.tanh(m_hat) + 1e-3 * abs(state["my_speed"])
        return param - group["lr"] * np.exp(-state["step"]) * my_speed, {"my_speed": my_speed}


def test_a_rule_of_ones_own() -> None:
    explanation = optim.explain(Own)
    assert explanation.latex.splitlines()[1:-1] == [
        r"\hat m_{t} &= \frac{g_{t}}{\sqrt{1 - \beta_{1}^{t}}} \\",
        r"\hat m_{t} &\leftarrow \hat m_{t} \mathrm{weight}_{2} \\",
        r"\hat m_{t} &\leftarrow \hat m_{t} \mathrm{weight}_{2} \\",
        r"\mathrm{my\_speed}_{t} &= \tanh\left(\hat m_{t}\right) + 0.001 "
        r"\left|\mathrm{my\_speed}_{t-1}\right| \\",
        r"\theta_{t} &= \theta_{t-1} - \gamma \exp\left(-t\right) \mathrm{my\_speed}_{t}",
    ]
    assert "my_speedₜ = tanh(m̂ₜ) + 0.001·|my_speedₜ₋₁|" in explanation.text
    scope = {}
    exec(explanation.python, scope)
    for param, grad, state, group, (new, entries) in steps_of(Own, {}, 3):
        found, found_entries = scope["own"](np, param, grad, state, group)
        assert np.array_equal(found, new)
        assert np.array_equal(found_entries["my_speed"], entries["my_speed"])


def test_a_name_that_is_still_used_is_marked_where_it_is_assigned_anew() -> None:
    class Twice(optim.SGD):
        def rule(self, xp, param, grad, state, group):
            old = grad
            grad = grad * 2
            return param - old * grad, {}

    assert text_of(Twice).splitlines() == ["gₜ′ = gₜ·2", " θₜ = θₜ₋₁ − gₜ·gₜ′"]


def test_notation_and_inherited_rules() -> None:
    class Noted(optim.Adam):
        notation = {"exp_avg": r"\mu_{@}"}  # noqa: RUF012

        def rule(self, xp, param, grad, state, group):
            grad = xp.sign(grad)
            return super().rule(xp, param, grad, state, group)

    rows = text_of(Noted).splitlines()
    assert rows[0].strip() == "gₜ ← sign(gₜ)"
    assert rows[1].strip() == "μₜ = β₁·μₜ₋₁ + (1 − β₁)·gₜ"


def fails(body, match):
    def rule(self, xp, param, grad, state, group):
        return body(xp, param, grad, state, group), {}

    cls = type("Bad", (Own,), {"rule": rule})
    with pytest.raises(optim.TraceError, match=match):
        optim.explain(cls)


def test_what_cannot_be_explained_is_an_error_that_says_why() -> None:
    fails(lambda xp, p, g, s, o: p if g > 0 else g, "branch on elements: use xp.where")
    fails(lambda xp, p, g, s, o: p * p.shape[0], r"\.shape cannot be explained")
    fails(lambda xp, p, g, s, o: p * float(s["step"]), "took a number out")
    fails(lambda xp, p, g, s, o: sum(p), "go through the elements")
    fails(lambda xp, p, g, s, o: xp.sign("x"), "takes arrays and numbers to be explained")
    fails(lambda xp, p, g, s, o: "x", "must return an array or a number for 'param'")

    def many(xp, p, g, s, o):
        return p * sum(s["step"] > k for k in range(20))

    fails(many, "branches at most 8 times")


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="expected a subclass of Optimizer, or an optimizer"):
        optim.explain("adam")
    with pytest.raises(TypeError, match="pass the class to explain others"):
        optim.explain(optim.SGD([np.zeros(1)]), lr=1)
    with pytest.raises(TypeError, match="base class"):
        optim.explain(optim.Optimizer)
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        optim.explain(optim.Adam, lr=-1)


# Watching


def test_the_tracer_that_was_there_is_back_whatever_happens() -> None:
    def tracer(*_):
        return None

    def function():
        raise ZeroDivisionError

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        with pytest.raises(ZeroDivisionError), watching({function.__code__}, print):
            function()
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


# Kernels


def test_kernels_come_from_the_executors_that_print_them(monkeypatch) -> None:
    opt = optim.SGD([np.zeros(2)], lr=0.1)
    program = trace(opt._update, (), {}, dict(opt._read(opt.param_groups[0], 0).options))
    assert optim.explain(opt).numba == kernel_source(program.structure, "float64")
    assert "rect" not in optim.explain(optim.RAdam).numba
    assert "np.sqrt" in optim.explain(optim.RAdam).numba  # far from the first step
    assert optim.explain(opt).cuda == cuda_kernel.kernel_source(program.structure, "float64")
    monkeypatch.setattr(backend, "available", dict)
    with pytest.raises(RuntimeError, match="no backend here that prints cuda kernels"):
        _ = optim.explain(opt).cuda
    cuda = types.SimpleNamespace(language="cuda", source=lambda s, dtype: f"// {dtype}")
    monkeypatch.setattr(backend, "available", lambda: {"cupy_fused": cuda})
    assert optim.explain(opt).cuda == "// float64"
    monkeypatch.setattr(backend, "missing", lambda: {"numba_fused": "no module numba"})
    with pytest.raises(ImportError, match=r'no module numba: pip install "arrayopt\[numba\]"'):
        _ = optim.explain(opt).numba


# The command line


def test_command_line(capsys, tmp_path) -> None:
    assert main(["explain", "sgd", "--option", "weight_decay=0.1"]) == 0
    assert "gₜ ← gₜ + λ·θₜ₋₁" in capsys.readouterr().out
    for form in ("latex", "python", "numba"):
        assert main(["explain", "ADAM", "--as", form]) == 0
        assert capsys.readouterr().out == getattr(optim.explain(optim.Adam), form).rstrip() + "\n"
    script = tmp_path / "mine.py"
    script.write_text(
        "from arrayopt import Optimizer\n"
        "class Mine(Optimizer):\n"
        "    def __init__(self, params, alpha=1.0):\n"
        "        super().__init__(params, {'alpha': alpha})\n"
        "    def rule(self, xp, param, grad, state, group):\n"
        "        return param - group['alpha'] * xp.sign(grad), {}\n"
        "class Broken(Mine):\n"
        "    def rule(self, xp, param, grad, state, group):\n"
        "        return param - group['beta'], {}\n"
    )
    assert main(["explain", "--script", f"{script}:Mine"]) == 0
    assert "θₜ = θₜ₋₁ − α·sign(gₜ)" in capsys.readouterr().out
    assert main(["explain", "adam", "--as", "cuda"]) == 0
    assert 'extern "C" __global__ void' in capsys.readouterr().out
    assert main(["explain", "--script", f"{script}:Broken"]) == 2
    assert "KeyError: 'beta'" in capsys.readouterr().err


def test_read_rule_with_a_state_needs_no_other_way() -> None:
    opt = optim.SGD([np.zeros(1)], momentum=0.9)
    options, slots = opt._read(opt.param_groups[0], 0)
    block = read_rule(opt, options, slots, {})
    assert not [item for item in block if isinstance(item, Branch)]
