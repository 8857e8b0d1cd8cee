"""Our speed against peers, measured in one run, in turn, on the machine that runs it. Never imported by the product."""
