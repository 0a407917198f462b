"""Hand rules to the kernel: runs `nft -f -`, and says in one line why it did not work.

The rules come from `config/capture_rules.py`. Needs nftables' own program and CAP_NET_ADMIN in the network namespace
whose traffic is captured; the running sidecar needs neither. Everything is one transaction: after a failure all is as
before.
"""

import grp
import os
import pwd
import shutil
import subprocess

from sidecar.errors import ConfigError

NFT_LIMIT_S = 20.0  # takes 20 ms; a kernel that loads its modules first takes seconds
_SYSTEM_FOLDERS = ("/usr/sbin", "/sbin")  # nft lives there, and not on everybody's PATH
_NOT_ALLOWED = (
    "the kernel lets only a network administrator change rules: run as root (sudo), or in a container with the "
    "capability NET_ADMIN"
)
_MAX_LINES = 5  # of nft's own words


def transact(rules: str) -> None:
    """Carry out a text of nft commands, all or nothing. Raises ConfigError with the reason and what to do."""
    program = find_nft()
    if program is None:
        raise ConfigError(["nft is not installed; install nftables (Debian: apt-get install nftables)"])
    try:
        done = subprocess.run(
            [program, "-f", "-"], input=rules, capture_output=True, text=True, timeout=NFT_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            [f"{program} did not end within {NFT_LIMIT_S:g}s; nothing is known to have changed"]
        ) from None
    except OSError as refusal:
        raise ConfigError([f"{program} cannot be run: {refusal.strerror or refusal}"]) from None
    if done.returncode != 0:
        raise ConfigError(refusal_lines(done.stderr))


def refusal_lines(said: str) -> list[str]:
    """What nft complained of, in words that say what to do; its own words where only they help."""
    if "Operation not permitted" in said:
        return [_NOT_ALLOWED]
    lines = [line for line in said.splitlines() if line.strip()][:_MAX_LINES] or ["it gave no reason"]
    hint = ""
    if any(words in said for words in ("No such file or directory", "not supported", "Protocol error")):
        hint = " (needs Linux 5.2 with nf_tables, nft_chain_nat, nft_redir and nft_fib_inet)"
    return [f"the kernel refused the rules, nothing was changed{hint}:", *lines]


def find_nft() -> str | None:
    """Path of nft, or None."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return shutil.which("nft", path=os.pathsep.join((*folders, *_SYSTEM_FOLDERS)))


def user_id(text: str) -> int:
    """The uid of a number or of a user's name. Raises ValueError with the sentence for the user."""
    try:
        return int(text) if text.isdecimal() else pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {text!r:.64} on this machine; give a number") from None


def group_id(text: str) -> int:
    """The gid of a number or of a group's name. Raises ValueError with the sentence for the user."""
    try:
        return int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {text!r:.64} on this machine; give a number") from None
