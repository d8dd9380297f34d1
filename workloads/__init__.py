"""Load: clients, operations, arrival schedule, recording. The only importer of Locust."""
