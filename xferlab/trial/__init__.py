"""One trial on one worker: the contract that makes running a study again the same as resuming it."""
