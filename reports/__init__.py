"""Reports: pure functions from verdict.json to HTML, JUnit XML and Markdown."""
