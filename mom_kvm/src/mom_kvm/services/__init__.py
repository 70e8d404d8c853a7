"""Services that plugins offer to other plugins and to commands (`mom_services`)."""
