"""Interactive view of the neurons of a network in three dimensions: layout, data and scripts, shared by all pages."""
