"""Speed and memory of net2net, each beside what it is measured by. `make bench` runs it."""
