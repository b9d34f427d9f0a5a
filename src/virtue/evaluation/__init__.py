"""Floor 3: any embedding model on SCaR, MMEB, scenes and own data.

`run.evaluate` goes from `tasks.Task` to `results.Results`: `embedding`, then `ranking`, then `metrics`. Tasks come from
`benchmarks`, models from `models`, disturbances from `robustness`, tables and pages from `reports`. `scenes` is what
`virtue measure` prints of the bundled model.
"""
