"""`make chaos`: random faults on real agents, while a client outside asks all the time who answers.

`plan.py` draws a trial's faults from its seed, `deeds.py` does them to a lab, `trial.py` runs a trial from a whole
cluster back to a whole cluster, `verdict.py` judges what the client saw, `picture.py` draws it.
"""
