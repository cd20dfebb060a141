from reports.tables import *
