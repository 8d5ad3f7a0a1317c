"""Checking data sets: counts against published ones, images, masks, sentences, ids."""
