"""Intake: conversion of clients' requests into commands, and their acceptance."""
