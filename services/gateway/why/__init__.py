"""Why things are as they are: from what is seen, through records, events and reports, to who gave the command."""
