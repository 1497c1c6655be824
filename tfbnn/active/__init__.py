"""Active learning: which rows to label next, so that few labels teach much."""

from tfbnn.active.acquire import acquire
from tfbnn.active.acquisition import ACQUISITIONS, get
from tfbnn.active.bald import bald
from tfbnn.active.base import Acquisition, by_score
from tfbnn.active.batch_bald import batch_bald, joint_mutual_information
from tfbnn.active.entropy import predictive_entropy
from tfbnn.active.learner import ActiveLearner
from tfbnn.active.random import random
from tfbnn.active.session import Session
from tfbnn.active.simulate import Simulation, simulate
from tfbnn.active.variance import epistemic_variance

__all__ = [
    "ACQUISITIONS",
    "Acquisition",
    "ActiveLearner",
    "Session",
    "Simulation",
    "acquire",
    "bald",
    "batch_bald",
    "by_score",
    "epistemic_variance",
    "get",
    "joint_mutual_information",
    "predictive_entropy",
    "random",
    "simulate",
]
