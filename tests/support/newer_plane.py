"""`control-plane` as a newer version would be: it knows a balancing algorithm, `quantum`, that no sidecar knows yet.

Run as a script by tests of rejections: what it takes from users, stores and pushes, a sidecar of this version cannot
read. Everything else is the product's own; only the list of algorithms is another, in this process alone.
"""

import sys
from enum import StrEnum

from control_plane.cli.serve import main
from sidecar.config.policy import balancing
from sidecar.model.balancing import Algorithm

NEW = "quantum"

if __name__ == "__main__":
    known = {member.name: member.value for member in Algorithm}
    vars(balancing)["Algorithm"] = StrEnum("Algorithm", {**known, "QUANTUM": NEW})
    sys.exit(main())
