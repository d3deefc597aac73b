"""A script that connects for each job and keeps what it got: nobody closes, and psycopg2 begins a transaction by itself."""

import sys

import psycopg2

results = []
for job in range(4):
    connection = psycopg2.connect("", application_name="nightly-report")
    cursor = connection.cursor()
    cursor.execute("select %s", (job,))
    results.append(cursor)
print("ready", flush=True)
sys.stdin.read()
