"""Examples of hypothesis take as long as the machine needs."""

from hypothesis import settings

settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")
