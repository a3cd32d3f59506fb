"""The Celery side: app, settings, a thin task per action, the engine that sends slices to
workers.
"""
