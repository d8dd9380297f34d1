"""Why answers of a bank contradict each other: money that appeared, disappeared, or never was there."""

from __future__ import annotations

from ._values import F
from ._why import Scene, Why
from ._words import capital

__all__ = ["BANK"]


def _balances(scene: Scene, i: int) -> dict[int, int]:
    items = scene.judged[i].items or ()
    return dict(zip(items[::2], items[1::2], strict=False))


def _named(scene: Scene, account: int) -> str:
    return scene.words.accounts(account, scene.merged)


def _wrong_accounts(scene: Scene) -> Why | None:
    """A read that does not name every account once."""
    for i, item in enumerate(scene.judged):
        told = item.items or ()
        each_once = len(told) % 2 == 0 and sorted(told[::2]) == sorted(scene.initial or {})
        if item.f is F.READ_ALL and not each_once:
            wanted = scene.words.listed(sorted(scene.initial or {}))
            reason = f"{scene.label(i)} {scene.found(i)}, which is not one balance for each of the accounts {wanted}."
            return Why(reason=capital(reason), reasons=(capital(reason),), impossible=i)
    return None


def _total(scene: Scene) -> Why | None:
    """The balances of a read add up to another sum than at first."""
    expected = sum((scene.initial or {}).values())
    for i, item in enumerate(scene.judged):
        total = sum(_balances(scene, i).values())
        if item.f is not F.READ_ALL or total == expected:
            continue
        accounts = len(scene.initial or {}) + len(scene.merged or {})
        holders = {1: "the account", 2: "both accounts together"}.get(accounts, f"all {accounts} accounts together")
        changed = "money appeared" if total > expected else "money disappeared"
        hold = "holds" if accounts == 1 else "hold"
        return Why(
            reason=capital(f"{scene.label(i)} found that {holders} {hold} {total}, expected {expected}: {changed}."),
            reasons=(
                f"At first {holders} held {expected}, and a transfer leaves the sum as it is.",
                capital(f"{scene.label(i)} {scene.found(i)}: {total} in all."),
            ),
            impossible=i,
        )
    return None


def _negative(scene: Scene) -> Why | None:
    """A read found a balance below zero."""
    for i, item in enumerate(scene.judged):
        below = [account for account, balance in _balances(scene, i).items() if balance < 0]
        if item.f is F.READ_ALL and below:
            reason = f"{scene.label(i)} found {_balances(scene, i)[below[0]]} on {_named(scene, below[0])}: no balance "
            reason += "can be below zero."
            return Why(reason=capital(reason), reasons=(capital(reason),), impossible=i)
    return None


def _change(scene: Scene, i: int, account: int) -> int:
    """What a transfer does to an account."""
    item = scene.judged[i]
    if item.f is not F.TRANSFER:
        return 0
    return item.value * ((item.version == account) - (item.expected == account))


def _range(scene: Scene, i: int, account: int) -> tuple[int, int]:
    """The least and the most that can have been on an account when operation `i` happened."""
    low = high = (scene.initial or {}).get(account, 0)
    for j in range(len(scene.judged)):
        change = _change(scene, j, account)
        if j == i or scene.precedes(i, j) or i == scene.anchor:
            continue
        if scene.precedes(j, i):
            low, high = low + change, high + change
        else:
            low, high = low + min(0, change), high + max(0, change)
    return max(0, low), high


def _out_of_range(scene: Scene) -> Why | None:
    """A read found more or less than there can have been, or a transfer took more than there can have been."""
    for i, item in enumerate(scene.judged):
        for account in scene.initial or {}:
            low, high = _range(scene, i, account)
            if item.f is F.READ_ALL:
                balance = _balances(scene, i).get(account)
                if balance is None or low <= balance <= high:
                    continue
                limit = f"at most {high} can" if balance > high else f"at least {low} must"
                if low == high:
                    limit = f"{low} must"
                reason = f"{scene.label(i)} found {balance} on {_named(scene, account)}, but {limit} have been there."
            elif item.f is F.TRANSFER and not item.optional and item.expected == account != item.version:
                if item.value <= high:
                    continue
                reason = f"{scene.label(i)} was acknowledged, but at most {high} can have been on "
                reason += f"{_named(scene, account)} then."
            else:
                continue
            sure = [
                capital(f"{scene.label(j)} was acknowledged before {scene.label(i)} began.")
                for j in range(len(scene.judged))
                if _change(scene, j, account) and scene.precedes(j, i)
            ]
            before = (scene.initial or {})[account]
            start = f"At first {before} was on {_named(scene, account)}."
            if scene.anchor is not None:
                start = capital(f"{scene.label(scene.anchor)} found {before} on {_named(scene, account)}.")
            return Why(reason=capital(reason), reasons=(start, *sure, capital(reason)), impossible=i)
    return None


BANK = (_wrong_accounts, _negative, _total, _out_of_range)
