"""The algorithms as their papers have them: the numbers, and the letters of `explain`.

The algorithms here are written down from the papers, in the letters that these use. Where torch
computes something else, a comment says so; the options are such that the rest can be compared.
"""

import inspect
import re
from functools import partial

import numpy as np
import pytest
from specs import SPECS, case_id

import arrayopt as optim

STEPS = 12
NOISE = np.random.default_rng(0).standard_normal((STEPS + 1, 6))
CURVATURE = np.array([0.1, 0.5, 1.0, 2.0, 4.0, 8.0])
START = np.array([1.0, -2.0, 0.5, 3.0, -1.0, 0.25])
MATRIX = START.reshape(2, 3)


def gradient(t, theta):
    """The gradient of a noisy quadratic function in step t."""
    return CURVATURE.reshape(theta.shape) * theta + NOISE[t].reshape(theta.shape)


# The papers


def robbins_monro(x, a):
    for t in range(1, STEPS + 1):
        x = x - a * gradient(t, x)
        yield x


def classical_momentum(theta, epsilon, mu):
    """Sutskever et al. (2013), equations 1 and 2."""
    v = 0
    for t in range(1, STEPS + 1):
        v = mu * v - epsilon * gradient(t, theta)
        theta = theta + v
        yield theta


def nesterov_momentum(theta, epsilon, mu):
    """Sutskever et al. (2013), equations 3 and 4: the points where the gradient is taken."""
    v = 0
    for t in range(1, STEPS + 1):
        v = mu * v - epsilon * gradient(t, theta + mu * v)
        theta = theta + v
        yield theta + mu * v


def adagrad(x, eta, delta):
    """Duchi et al. (2011), figure 1, without a regularizer."""
    g = []
    for t in range(1, STEPS + 1):
        g.append(gradient(t, x))
        s = np.linalg.norm(g, axis=0)
        h = delta + s
        x = x - eta * g[-1] / h
        yield x


def adafactor(x, epsilon2, d):
    """Shazeer and Stern (2018), algorithms 4 to 6, with epsilon1 = 0 (torch has it elsewhere)."""

    def rms(x):
        return np.sqrt(np.mean(x**2))

    ones_n, ones_m = (np.ones(length) for length in (*x.shape, 1)[:2])
    r, c, v = 0, 0, 0
    for t in range(1, STEPS + 1):
        rho, beta = min(1e-2, 1 / np.sqrt(t)), 1 - t**-0.8
        alpha = max(epsilon2, rms(x)) * rho
        g = gradient(t, x)
        if x.ndim == 2:
            r = beta * r + (1 - beta) * g**2 @ ones_m
            c = beta * c + (1 - beta) * ones_n @ g**2
            v = np.outer(r, c) / (ones_n @ r)
        else:
            v = beta * v + (1 - beta) * g**2
        u = g / np.sqrt(v)
        u_hat = u / max(1, rms(u) / d)
        x = x - alpha * u_hat
        yield x


def newton_schulz_5(g):
    """Jordan et al. (2024): NewtonSchulz5, in double precision, and without its eps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / np.linalg.norm(g)
    for _ in range(5):
        product = x @ x.T
        x = a * x + (b * product + c * product @ product) @ x
    return x


def muon(theta, eta, mu):
    """Jordan et al. (2024), algorithm 2, with the factor that his code has for tall matrices."""
    b = 0
    for t in range(1, STEPS + 1):
        b = mu * b + gradient(t, theta)
        theta = theta - eta * max(1, len(theta) / len(theta.T)) ** 0.5 * newton_schulz_5(b)
        yield theta


def scaled_muon(w, eta, mu, decay):
    """Liu et al. (2025), equations 1 and 4."""
    m = 0
    for t in range(1, STEPS + 1):
        m = mu * m + gradient(t, w)
        o = newton_schulz_5(m)
        w = w - eta * (0.2 * o * np.sqrt(max(w.shape)) + decay * w)
        yield w


def adadelta(x, rho, epsilon):
    """Zeiler (2012), algorithm 1."""

    def rms(mean):
        return np.sqrt(mean + epsilon)

    mean_g, mean_dx = 0, 0
    for t in range(1, STEPS + 1):
        g = gradient(t, x)
        mean_g = rho * mean_g + (1 - rho) * g**2
        dx = -rms(mean_dx) / rms(mean_g) * g
        mean_dx = rho * mean_dx + (1 - rho) * dx**2
        x = x + dx
        yield x


def hinton(w, rate, decay):
    """Tieleman and Hinton (2012), lecture 6.5."""
    mean_square = 0
    for t in range(1, STEPS + 1):
        g = gradient(t, w)
        mean_square = decay * mean_square + (1 - decay) * g**2
        w = w - rate * g / np.sqrt(mean_square)
        yield w


def graves(w, aleph, beth, gimel, daleth):
    """Graves (2013), equations 38 to 41; torch has epsilon, his daleth, outside the root."""
    n, g, delta = 0, 0, 0
    for t in range(1, STEPS + 1):
        epsilon = gradient(t, w)
        n = aleph * n + (1 - aleph) * epsilon**2
        g = aleph * g + (1 - aleph) * epsilon
        delta = beth * delta - gimel * epsilon / np.sqrt(n - g**2 + daleth)
        w = w + delta
        yield w


def irprop_minus(w, eta_minus, eta_plus, smallest, largest, first):
    """Igel and Hüsken (2000), iRprop-, weight by weight."""
    w, delta, last = w.copy(), np.full(w.size, first), np.zeros(w.size)
    for t in range(1, STEPS + 1):
        now = gradient(t, w)
        for i in range(w.size):
            if last[i] * now[i] > 0:
                delta[i] = min(delta[i] * eta_plus, largest)
            elif last[i] * now[i] < 0:
                delta[i] = max(delta[i] * eta_minus, smallest)
                now[i] = 0
            w[i] -= np.sign(now[i]) * delta[i]
        last = now
        yield w.copy()


def adam(theta, alpha, beta1, beta2, epsilon, amsgrad=False):
    """Kingma and Ba (2015), algorithm 1.

    With Reddi et al. (2018), algorithm 2, as torch has it, which keeps the bias corrections and
    epsilon.
    """
    m, v, largest = 0, 0, 0
    for t in range(1, STEPS + 1):
        g = gradient(t, theta)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        largest = np.maximum(largest, v)
        m_hat = m / (1 - beta1**t)
        v_hat = (largest if amsgrad else v) / (1 - beta2**t)
        theta = theta - alpha * m_hat / (np.sqrt(v_hat) + epsilon)
        yield theta


def adam_reordered(theta, alpha, beta1, beta2, epsilon_hat):
    """Kingma and Ba (2015), the end of section 2."""
    m, v = 0, 0
    for t in range(1, STEPS + 1):
        g = gradient(t, theta)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        alpha_t = alpha * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        theta = theta - alpha_t * m / (np.sqrt(v) + epsilon_hat)
        yield theta


def adamax(theta, alpha, beta1, beta2):
    """Kingma and Ba (2015), algorithm 2."""
    m, u = 0, 0
    for t in range(1, STEPS + 1):
        g = gradient(t, theta)
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g))
        theta = theta - alpha / (1 - beta1**t) * m / u
        yield theta


def adamw(theta, eta, alpha, beta1, beta2, epsilon, lambda_):
    """Loshchilov and Hutter (2019), algorithm 2, with a constant schedule multiplier."""
    m, v = 0, 0
    for t in range(1, STEPS + 1):
        g = gradient(t, theta)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        theta = theta - eta * (alpha * m_hat / (np.sqrt(v_hat) + epsilon) + lambda_ * theta)
        yield theta


def nadam(theta, alpha, mu, nu, epsilon):
    """Dozat (2016), algorithm 2, with the schedule of mu of its experiments."""
    mus = [mu * (1 - 0.5 * 0.96 ** (t / 250)) for t in range(1, STEPS + 2)]
    m, n = 0, 0
    for t in range(1, STEPS + 1):
        g = gradient(t, theta)
        m = mu * m + (1 - mu) * g  # in the paper, it decays by mus[t - 1]
        n = nu * n + (1 - nu) * g**2
        m_hat = mus[t] * m / (1 - np.prod(mus[: t + 1])) + (1 - mus[t - 1]) * g / (
            1 - np.prod(mus[:t])
        )
        n_hat = n / (1 - nu**t)  # in the paper, there is a factor nu
        theta = theta - alpha / (np.sqrt(n_hat) + epsilon) * m_hat
        yield theta


def radam(theta, alpha, beta1, beta2):
    """Liu et al. (2020), algorithm 2."""
    m, v = 0, 0
    rho_inf = 2 / (1 - beta2) - 1
    for t in range(1, STEPS + 1):
        g = gradient(t, theta)
        v = beta2 * v + (1 - beta2) * g**2
        m = beta1 * m + (1 - beta1) * g
        m_hat = m / (1 - beta1**t)
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        if rho > 5:  # in the paper, 4
            ell = np.sqrt((1 - beta2**t) / v)
            r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            theta = theta - alpha * r * m_hat * ell
        else:
            theta = theta - alpha * m_hat
        yield theta


def bottou(w, gamma0, lambda_):
    """Bottou (2010): steps for a loss with an L2 penalty."""
    for t in range(STEPS):
        gamma = gamma0 * (1 + lambda_ * gamma0 * t) ** -0.75
        w = w - gamma * (lambda_ * w + gradient(t + 1, w))
        yield w


BETAS = (0.8, 0.97)
PAPERS = {
    "SGD": (partial(robbins_monro, START, 0.1), optim.SGD, {"lr": 0.1}),
    "momentum": (
        partial(classical_momentum, START, 0.05, 0.8),
        optim.SGD,
        {"lr": 0.05, "momentum": 0.8},
    ),
    "Nesterov": (
        partial(nesterov_momentum, START, 0.05, 0.8),
        optim.SGD,
        {"lr": 0.05, "momentum": 0.8, "nesterov": True},
    ),
    "Adagrad": (partial(adagrad, START, 0.3, 0.01), optim.Adagrad, {"lr": 0.3, "eps": 0.01}),
    "Adadelta": (partial(adadelta, START, 0.8, 0.01), optim.Adadelta, {"rho": 0.8, "eps": 0.01}),
    "Adafactor": (
        partial(adafactor, START, 1e-3, 1.0),
        optim.Adafactor,
        {"eps": (0.0, 1e-3)},
    ),
    "Adafactor on a matrix": (
        partial(adafactor, MATRIX, 0.9, 2.0),
        optim.Adafactor,
        {"eps": (0.0, 0.9), "d": 2.0},
    ),
    "Muon": (
        partial(muon, MATRIX.T, 0.1, 0.9),
        optim.Muon,
        {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0, "eps": 0.0},
    ),
    "Muon with the step of AdamW": (
        partial(scaled_muon, MATRIX, 0.1, 0.9, 0.3),
        optim.Muon,
        {
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 0.3,
            "eps": 0.0,
            "adjust_lr_fn": "match_rms_adamw",
        },
    ),
    "RMSprop": (
        partial(hinton, START, 0.1, 0.9),
        optim.RMSprop,
        {"lr": 0.1, "alpha": 0.9, "eps": 0},
    ),
    "centered RMSprop": (
        partial(graves, START, 0.95, 0.8, 0.01, 0.0),
        optim.RMSprop,
        {"lr": 0.01, "alpha": 0.95, "momentum": 0.8, "centered": True, "eps": 0},
    ),
    "Rprop": (
        partial(irprop_minus, START, 0.4, 1.3, 0.05, 0.2, 0.1),
        optim.Rprop,
        {"lr": 0.1, "etas": (0.4, 1.3), "step_sizes": (0.05, 0.2)},
    ),
    "Adam": (
        partial(adam, START, 0.1, *BETAS, 0.01),
        optim.Adam,
        {"lr": 0.1, "betas": BETAS, "eps": 0.01},
    ),
    "AMSGrad": (
        partial(adam, START, 0.1, *BETAS, 0.01, amsgrad=True),
        optim.Adam,
        {"lr": 0.1, "betas": BETAS, "eps": 0.01, "amsgrad": True},
    ),
    "SparseAdam": (
        partial(adam_reordered, START, 0.1, *BETAS, 0.01),
        optim.SparseAdam,
        {"lr": 0.1, "betas": BETAS, "eps": 0.01},
    ),
    "Adamax": (
        partial(adamax, START, 0.1, *BETAS),
        optim.Adamax,
        {"lr": 0.1, "betas": BETAS, "eps": 0},
    ),
    "AdamW": (
        partial(adamw, START, 0.5, 0.2, *BETAS, 0.01, 0.3),
        optim.AdamW,
        {"lr": 0.5 * 0.2, "betas": BETAS, "eps": 0.01, "weight_decay": 0.3 / 0.2},
    ),
    "NAdam": (
        partial(nadam, START, 0.1, *BETAS, 0.01),
        optim.NAdam,
        {"lr": 0.1, "betas": BETAS, "eps": 0.01, "momentum_decay": 1 / 250},
    ),
    "RAdam": (
        partial(radam, START, 0.1, *BETAS),
        optim.RAdam,
        {"lr": 0.1, "betas": BETAS, "eps": 0},
    ),
    "ASGD": (partial(bottou, START, 0.1, 0.2), optim.ASGD, {"lr": 0.1, "lambd": 0.2}),
}


@pytest.mark.parametrize(("paper", "cls", "options"), PAPERS.values(), ids=PAPERS)
def test_steps_are_those_of_the_paper(paper, cls, options) -> None:
    w = paper.args[0].copy()
    opt = cls([w], **options)
    for t, expected in enumerate(paper(), 1):
        grad = gradient(t, w)
        if cls is optim.SparseAdam:
            grad = optim.SparseGrad(np.arange(w.size), grad, w.shape)
        opt.step(grads=[grad])
        np.testing.assert_allclose(w, expected, rtol=1e-12, atol=1e-13)
    assert t == STEPS


@pytest.mark.parametrize("t0", [-1, 0, 4])
def test_the_average_of_asgd_is_that_of_polyak_and_juditsky(t0) -> None:
    """Over all steps; in torch, over those after t0 + 1."""
    w = START.copy()
    opt = optim.ASGD([w], lr=0.1, t0=t0)
    way = list(bottou(START, 0.1, 1e-4))
    for t in range(1, STEPS + 1):
        opt.step(grads=[gradient(t, w)])
        (state,) = opt.state.values()
        expected = np.mean(way[t0 + 1 : t], axis=0) if t > t0 + 1 else way[t - 1]
        np.testing.assert_allclose(state["ax"], expected, rtol=1e-12)


def test_directions_of_lbfgs_are_those_of_the_formula_that_it_is_short_for() -> None:
    """Nocedal and Wright (2006), equations 7.16, 7.17 and 7.20, with matrices."""
    x, seen = START.copy(), []

    def closure():
        seen.append(x.copy())
        return float(np.sum(CURVATURE * x**2) / 2), [CURVATURE * x]

    optim.LBFGS([x], lr=0.5, max_iter=8, history_size=3).step(closure)
    point, pairs, identity = START.copy(), [], np.eye(6)
    for k, found in enumerate([*seen, x]):
        np.testing.assert_allclose(found, point, rtol=1e-9, atol=1e-12)
        g = CURVATURE * point
        inverse = identity
        if pairs:
            s, y = pairs[-1]
            inverse = (s @ y) / (y @ y) * identity
        for s, y in pairs[-3:]:
            rho = 1 / (y @ s)
            v = identity - rho * np.outer(y, s)
            inverse = v.T @ inverse @ v + rho * np.outer(s, s)
        length = 0.5 if k else 0.5 * min(1, 1 / np.abs(g).sum())  # torch's
        s = -length * inverse @ g
        pairs.append((s, CURVATURE * s))
        point = point + s
    assert k == 8


# The letters


def compact(latex):
    """LaTeX without what does not show."""
    latex = re.sub(r"\\(left|right|bigl|bigr)(?![A-Za-z])", "", latex)
    latex = re.sub(r"([_^])\{(\\?\w+|[+-])\}", r"\1\2", latex)
    return re.sub(r"\s|&(?!\\text)|\\quad", "", latex)


def equations(latex):
    """The equations in the lines of a block; those of cases belong together."""
    latex = re.sub(
        r"\\begin\{cases\}.*?\\end\{cases\}",
        lambda found: found[0].replace(r"\\", r"\newline"),
        latex,
        flags=re.DOTALL,
    )
    latex = re.sub(r"\\ \\text\{\([A-Za-z]+\)\}", "", latex)
    rows = re.split(r"\\\\|,\s*\\q?quad", latex)
    return [compact(row.replace(r"\newline", r"\\")) for row in rows]


def explained(cls, **options):
    latex = optim.explain(cls, **options).latex
    return equations(latex.replace(r"\begin{aligned}", "").replace(r"\end{aligned}", ""))


PENALTY = r"g_t \leftarrow g_t + \lambda \theta_{t-1}"
DECAY = r"\theta_{t-1} \leftarrow (1 - \gamma \lambda) \theta_{t-1}"
FIRST = r"m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t"
SECOND = r"v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2"
REORDERED = [
    r"c_{1,t} = 1 - \beta_1^t",
    r"\sqrt{c_{2,t}} = \sqrt{1 - \beta_2^t}",
    r"\gamma_t = \frac{\gamma \sqrt{c_{2,t}}}{c_{1,t}}",
    r"d_t = \sqrt{v_t} + \epsilon \sqrt{c_{2,t}}",
    r"\theta_t = \theta_{t-1} - \frac{\gamma_t m_t}{d_t}",
]
MOMENTUM = (
    r"b_t = \begin{cases} \mu b_{t-1} + (1 - \tau) g_t & \text{if } b_{t-1} \text{ exists} \\"
    r" g_t & \text{otherwise} \end{cases}"
)
BUFFER_STEP = r"\theta_t = \theta_{t-1} - \gamma b_t"
QUASI_NEWTON = [
    r"d_k = -H_k g_k",
    r"x_{k+1} = x_k + t_k d_k",
    r"s_k = x_{k+1} - x_k",
    r"y_k = g_{k+1} - g_k",
    r"\rho_k = 1 / y_k^T s_k",
    r"H_{k+1} = (I - \rho_k s_k y_k^T) H_k (I - \rho_k y_k s_k^T) + \rho_k s_k s_k^T",
]
ALL = {"weight_decay": 0.1}

#: What each algorithm is to be written like: the lines of the paper, in the letters of torch.
LINES = {
    "SGD": (
        optim.SGD,
        ALL | {"momentum": 0.9, "dampening": 0.2},
        [PENALTY, MOMENTUM, BUFFER_STEP],
    ),
    "Nesterov": (
        optim.SGD,
        ALL | {"momentum": 0.9, "nesterov": True},
        [
            PENALTY,
            MOMENTUM.replace(r"(1 - \tau) ", ""),
            r"g_t \leftarrow g_t + \mu b_t",
            r"\theta_t = \theta_{t-1} - \gamma g_t",
        ],
    ),
    "maximize": (
        optim.SGD,
        ALL | {"maximize": True},
        [r"g_t \leftarrow -g_t", PENALTY, r"\theta_t = \theta_{t-1} - \gamma g_t"],
    ),
    "Adagrad": (
        optim.Adagrad,
        ALL,
        [
            PENALTY,
            r"\gamma_t = \frac{\gamma}{1 + (t - 1) \eta}",
            r"s_t = s_{t-1} + g_t^2",
            r"d_t = \sqrt{s_t} + \epsilon",
            r"\theta_t = \theta_{t-1} - \frac{\gamma_t g_t}{d_t}",
        ],
    ),
    "Adadelta": (
        optim.Adadelta,
        ALL,
        [
            PENALTY,
            r"v_t = \rho v_{t-1} + (1 - \rho) g_t^2",
            r"d_t = \sqrt{v_t + \epsilon}",
            r"\Delta_t = \frac{\sqrt{u_{t-1} + \epsilon}}{d_t} g_t",
            r"u_t = \rho u_{t-1} + (1 - \rho) \Delta_t^2",
            r"\theta_t = \theta_{t-1} - \gamma \Delta_t",
        ],
    ),
    "Adafactor": (
        optim.Adafactor,
        ALL | {"eps": (1e-30, 1e-3)},
        [
            r"\beta_t = 1 - t^\tau",
            r"\alpha_t = \begin{cases} \max(\operatorname{rms}(\theta_{t-1}), \epsilon_2)"
            r" \frac{1}{\sqrt{t}} & \text{if } \frac{1}{\sqrt{t}} < \gamma \\"
            r" \max(\operatorname{rms}(\theta_{t-1}), \epsilon_2) \gamma"
            r" & \text{otherwise} \end{cases}",
            r"q_t = g_t^2",
            r"r_t = \beta_t r_{t-1} + (1 - \beta_t) \operatorname{row\_mean}(q_t)",
            r"c_t = \beta_t c_{t-1} + (1 - \beta_t) \operatorname{column\_mean}(q_t)",
            r"v_t = \frac{r_t c_t}{\max(\operatorname{column\_mean}(r_t), \epsilon_1)}",
            r"u_t = \frac{g_t}{\sqrt{\max(v_t, \epsilon_1^2)}}",
            r"\alpha_t \leftarrow \frac{\alpha_t}{\max(\frac{\operatorname{rms}(u_t)}{d}, 1)}",
            DECAY,
            r"\theta_t = \theta_{t-1} - \alpha_t u_t",
        ],
    ),
    "Muon": (
        optim.Muon,
        {},
        [
            r"b_t = \mu b_{t-1} + (1 - \mu) g_t",
            r"\tilde b_t = \mu b_t + (1 - \mu) g_t",
            r"o_t = \operatorname{newton\_schulz}(\tilde b_t, a, b, c, k, \epsilon)",
            r"\gamma_t = \begin{cases} \gamma \sqrt{\frac{m}{n}} & \text{if } \frac{m}{n} > 1 \\"
            r" \gamma & \text{otherwise} \end{cases}",
            DECAY,
            r"\theta_t = \theta_{t-1} - \gamma_t o_t",
        ],
    ),
    "RMSprop": (
        optim.RMSprop,
        {},
        [
            r"v_t = \alpha v_{t-1} + (1 - \alpha) g_t^2",
            r"d_t = \sqrt{v_t} + \epsilon",
            r"\theta_t = \theta_{t-1} - \frac{\gamma g_t}{d_t}",
        ],
    ),
    "centered RMSprop": (
        optim.RMSprop,
        ALL | {"centered": True, "momentum": 0.9},
        [
            PENALTY,
            r"v_t = \alpha v_{t-1} + (1 - \alpha) g_t^2",
            r"\bar g_t = \alpha \bar g_{t-1} + (1 - \alpha) g_t",
            r"\tilde v_t = \max(v_t - \bar g_t^2, 0)",
            r"d_t = \sqrt{\tilde v_t} + \epsilon",
            r"b_t = \mu b_{t-1} + \frac{g_t}{d_t}",
            BUFFER_STEP,
        ],
    ),
    "Rprop": (
        optim.Rprop,
        {},
        [
            r"a_t = g_t g_{t-1}",
            r"\Delta_t = \begin{cases} \eta^+ \Delta_{t-1} & \text{if } a_t > 0 \\"
            r" \eta^- \Delta_{t-1} & \text{if } a_t < 0 \\"
            r" \Delta_{t-1} & \text{otherwise} \end{cases}",
            r"\Delta_t \leftarrow \min(\max(\Delta_t, \Delta_{\min}), \Delta_{\max})",
            r"g_t \leftarrow \begin{cases} 0 & \text{if } a_t < 0 \\"
            r" g_t & \text{otherwise} \end{cases}",
            r"\theta_t = \theta_{t-1} - \operatorname{sign}(g_t) \Delta_t",
        ],
    ),
    "Adam": (optim.Adam, ALL, [PENALTY, FIRST, SECOND, *REORDERED]),
    "AMSGrad": (
        optim.Adam,
        {"amsgrad": True},
        [
            FIRST,
            SECOND,
            r"v^{\max}_t = \max(v^{\max}_{t-1}, v_t)",
            *REORDERED[:3],
            r"d_t = \sqrt{v^{\max}_t} + \epsilon \sqrt{c_{2,t}}",
            REORDERED[4],
        ],
    ),
    "AdamW": (optim.AdamW, {}, [DECAY, FIRST, SECOND, *REORDERED]),
    "SparseAdam": (
        optim.SparseAdam,
        {},
        [
            FIRST,
            SECOND,
            r"v_t \leftarrow \begin{cases} v_{t-1} & \text{if } \operatorname{isinf}(v_{t-1}) \\"
            r" v_t & \text{otherwise} \end{cases}",
            r"\gamma_t = \frac{\gamma \sqrt{1 - \beta_2^t}}{1 - \beta_1^t}",
            r"d_t = \sqrt{v_t} + \epsilon",
            r"\theta_t = \theta_{t-1} - \gamma_t \frac{m_t}{d_t}",
        ],
    ),
    "Adamax": (
        optim.Adamax,
        ALL,
        [
            PENALTY,
            FIRST,
            r"u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon)",
            r"\gamma_t = \frac{\gamma}{1 - \beta_1^t}",
            r"\theta_t = \theta_{t-1} - \frac{\gamma_t m_t}{u_t}",
        ],
    ),
    "NAdam": (
        optim.NAdam,
        ALL,
        [
            PENALTY,
            FIRST,
            SECOND,
            r"\mu_t = \beta_1 (1 - 0.5 \cdot 0.96^{t \psi})",
            r"\mu_{t+1} = \beta_1 (1 - 0.5 \cdot 0.96^{(t + 1) \psi})",
            r"\prod_{i=1}^t \mu_i = \left(\prod_{i=1}^{t-1} \mu_i\right) \mu_t",
            REORDERED[1],
            REORDERED[3],
            r"\gamma^g_t = \frac{\gamma \sqrt{c_{2,t}} (1 - \mu_t)}{1 - \prod_{i=1}^t \mu_i}",
            r"\gamma^m_t = \frac{\gamma \sqrt{c_{2,t}} \mu_{t+1}}"
            r"{1 - \left(\prod_{i=1}^t \mu_i\right) \mu_{t+1}}",
            r"\theta_t = \theta_{t-1} - \frac{\gamma^g_t g_t + \gamma^m_t m_t}{d_t}",
        ],
    ),
    "RAdam": (
        optim.RAdam,
        ALL | {"decoupled_weight_decay": True},
        [
            DECAY,
            FIRST,
            SECOND,
            r"c_{2,t} = 1 - \beta_2^t",
            r"\gamma_t = \frac{\gamma}{1 - \beta_1^t}",
            r"\rho_\infty = \frac{2}{1 - \beta_2} - 1",
            r"\rho_t = \rho_\infty - \frac{2 t \beta_2^t}{c_{2,t}}",
            r"\theta_t = \theta_{t-1} - \gamma_t m_t \text{if } \rho_t \leq 5",
            r"r_t^2 = \frac{(\rho_t - 4) (\rho_t - 2) \rho_\infty}"
            r"{(\rho_\infty - 4) (\rho_\infty - 2) \rho_t} \text{if } \rho_t > 5",
            r"\gamma_t \leftarrow \gamma_t \sqrt{r_t^2 c_{2,t}} \text{if } \rho_t > 5",
            r"\theta_t = \theta_{t-1} - \frac{\gamma_t m_t}{\sqrt{v_t} + \epsilon}"
            r" \text{if } \rho_t > 5",
        ],
    ),
    "ASGD": (
        optim.ASGD,
        ALL,
        [
            PENALTY,
            r"\theta_t = (1 - \eta_t \lambda_d) \theta_{t-1} - \eta_t g_t",
            r"\bar\theta_t = \begin{cases} \theta_t & \text{if } \mu_t = 1 \\"
            r" \bar\theta_{t-1} + \mu_t (\theta_t - \bar\theta_{t-1})"
            r" & \text{otherwise} \end{cases}",
            r"\eta_{t+1} = \frac{\gamma}{(1 + \lambda_d \gamma t)^\alpha}",
            r"\mu_{t+1} = \begin{cases} \frac{1}{t - t_0} & \text{if } t - t_0 > 1 \\"
            r" 1 & \text{otherwise} \end{cases}",
        ],
    ),
    "LBFGS": (
        optim.LBFGS,
        {},
        [
            *QUASI_NEWTON,
            r"t_0 = \gamma \min(1, 1 / \lVert g_0 \rVert_1)",
            r"t_k = \gamma \qquad (k > 0)",
        ],
    ),
    "LBFGS with a line search": (  # Nocedal and Wright (2006), equation 3.7
        optim.LBFGS,
        {"line_search_fn": "strong_wolfe"},
        [
            *QUASI_NEWTON,
            r"f(x_k + t_k d_k) \le f(x_k) + 10^{-4} t_k g_k^T d_k",
            r"|g(x_k + t_k d_k)^T d_k| \le 0.9 |g_k^T d_k|",
        ],
    ),
}


@pytest.mark.parametrize(("cls", "options", "expected"), LINES.values(), ids=LINES)
def test_an_explanation_has_the_lines_of_the_paper(cls, options, expected) -> None:
    assert explained(cls, **options) == [compact(line) for line in expected]


def test_all_algorithms_are_here() -> None:
    assert {cls for cls, _, _ in LINES.values()} == {
        getattr(optim, name) for name in optim.algorithms.__all__
    }


#: Lines that a docstring writes shorter, or in words.
SHORTER = {
    optim.SGD: {MOMENTUM.replace(r"(1 - \tau) ", "")},  # which is that of no dampening
    optim.RMSprop: {LINES["RMSprop"][2][1], LINES["RMSprop"][2][2]},  # one with all options
    optim.SparseAdam: {LINES["SparseAdam"][2][2]},
    optim.Adafactor: {LINES["Adafactor"][2][1]},
    optim.Muon: {LINES["Muon"][2][3]},
    optim.NAdam: {LINES["NAdam"][2][4], LINES["NAdam"][2][5]},
    optim.ASGD: {LINES["ASGD"][2][2], LINES["ASGD"][2][4]},
    optim.Adam: {LINES["AMSGrad"][2][6]},
}


@pytest.mark.parametrize(("cls", "options", "expected"), LINES.values(), ids=LINES)
def test_a_docstring_has_the_equations_of_the_explanation(cls, options, expected) -> None:
    docs = [
        inspect.getdoc(base) for base in cls.__mro__ if base.__module__.startswith("arrayopt.a")
    ]
    there = {r"g_t\leftarrow-g_t"}
    for doc in docs:
        blocks = re.findall(r"\.\. math::\n\n((?:[ ]+.*\n|\n)+)", doc)
        there |= {equation for block in blocks for equation in equations(block)}
        there |= {compact(found) for found in re.findall(r":math:`(.*?)`", doc, re.DOTALL)}
    shorter = {compact(line) for line in SHORTER.get(cls, ())}
    for line in explained(cls, **options):
        plain = line.split(r"\text{if}")[0] if line.startswith("r_t^2") else line
        assert plain in there or line in shorter, line


@pytest.mark.parametrize("spec", SPECS, ids=case_id)
def test_references_have_years_and_titles(spec) -> None:
    """And they say what is torch's, if it has the algorithm."""
    told = optim.explain(spec.cls).references
    titles = re.findall(r'\((19|20)\d\d\), "[^"]{20,}"', told)
    assert titles
    assert len(titles) == len(re.findall(r"\((?:19|20)\d\d\)", told))
    assert "torch" in told or spec.reference
