"""The Dagster project: the only folder that imports Dagster. It decides when and for which shard, never how."""

import warnings

import dagster as dg

# Backfill policies are marked beta; dagster is pinned to a minor version, so the warning tells users nothing.
warnings.filterwarnings("ignore", category=dg.BetaWarning, message="Parameter `backfill_policy`")
