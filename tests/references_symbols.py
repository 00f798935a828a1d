"""What n-gram and mixture do, once more in plain Python: dictionaries by context, sums written out."""

from __future__ import annotations

import math

import numpy as np


class ReferenceNGram:
    """Counts in dictionaries that know no limit: context, oldest first, to {number: count}, the latest last."""

    def __init__(self, classes, order=7):
        self.classes = classes
        self.order = order
        self.counts = {}
        self.seen = [0] * order

    def context(self, order):
        return (order, *self.seen[len(self.seen) - order :])

    def predict(self, classes):
        """Return the shares by order, and the longest context that has followers."""
        followers = self.counts.get(self.context(0), {})
        total = sum(followers.values())
        shares = [[(followers.get(v, 0) + 1 / classes) / (total + 1) for v in range(classes)]]
        top = 0
        for order in range(1, self.order + 1):
            followers = self.counts.get(self.context(order), {})
            if not followers:
                shares.append(shares[-1])
                continue
            top, total = order, sum(followers.values())
            back = 0.8 * len(followers) / total
            shares.append(
                [
                    back * shares[-1][v] + (followers[v] - 0.8 if v in followers else 0.0) / total
                    for v in range(classes)
                ]
            )
        return np.array(shares), top

    def learn(self, number):
        for order in range(self.order, -1, -1):
            if number == 0 and order > 1:
                continue
            followers = self.counts.setdefault(self.context(order), {})
            known = number in followers
            if order > 1 and followers.get(number) == 255:
                for each in followers:
                    followers[each] = (followers[each] + 1) // 2
            count = followers.pop(number, 0)
            followers[number] = count + 1
            if known:
                break
        self.seen.append(number)


def softmax(z):
    e = np.exp(z - np.max(z))
    return e / e.sum()


def mix(weights, votes, reliance, voices, followers):
    """Return the mixture of voices (E, V): weights (K, E), votes (K,); and its drafts (K, V)."""
    drafts = np.array([softmax(weight @ voices) for weight in weights])
    z = votes @ np.log(drafts + 1e-7)
    for symbol, cell in followers:
        z[symbol] += reliance[cell]
    p = softmax(z)
    return (p + 1e-7) / (1 + 1e-7 * p.size), drafts


def loss(p, number):
    return -math.log(p[number])
