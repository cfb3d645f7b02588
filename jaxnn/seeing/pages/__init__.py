"""Pages of one file each: a template, its data as JSON, and what runs in it."""
