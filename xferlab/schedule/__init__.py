"""When and where: the readiness rule, and the executors that follow it."""
