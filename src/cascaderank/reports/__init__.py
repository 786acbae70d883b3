"""Reports: tables, plots and files for people, from the numbers of other rooms."""
