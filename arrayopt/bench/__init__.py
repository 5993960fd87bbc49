"""The benchmark: ``python -m arrayopt bench``.

`workloads` says what is timed, `contenders` who takes part (LBFGS by way of `bowl`, averages by way
of `averaging`, optax by way of `optax_step`) and `measure` how. `comparison` is one algorithm on
one workload, within `memory`; `session` is all of them, with an eye on the `neighbours`. `cuda` is
another place to measure on, and `saving` times checkpoints. `report`, `record` and `chart` show
what comes of it, and `command` reads the command line.
"""
