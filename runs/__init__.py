"""What a run is, without Celery: cells, steps, outcomes, exclusion; and the engine that works in
this process.
"""
