"""Services between plugins (`mom_services`), and for verbs."""
